"""The profile of classifiers: which kind an operation is, and the shares of a table."""

from types import SimpleNamespace

import pytest

from models.errors import UsageError
from tools.profile import COLUMNS, kind_of, main, table


@pytest.mark.parametrize(
    ("name", "shapes", "kind"),
    [
        ("mkldnn::_linear_pointwise", [[588, 512], [2048, 512]], "products"),
        ("aten::mm", [[4, 5], [5, 6]], "products"),
        ("aten::mkldnn_convolution", [[3, 64, 9, 9], [64, 64, 3, 3], []], "convolutions"),
        ("aten::mkldnn_convolution", [[3, 64, 9, 9], [64, 1, 3, 3], []], "depthwise"),
        ("aten::convolution_backward", [[3, 64, 9, 9], [3, 64, 9, 9], [64, 1, 5, 5], []], "depthwise"),
        ("aten::native_layer_norm_backward", [[3, 9, 64]], "layer norm"),
        ("aten::native_batch_norm", [[3, 64, 9, 9]], "batch norm"),
        ("aten::gelu_backward", [[3, 64]], "activations"),
        ("aten::mul", [[3, 64]], "elementwise"),
        ("autograd::engine::evaluate_function: AddBackward0", [], "other"),
    ],
)
def test_every_operation_has_a_kind(name, shapes, kind):
    assert kind_of(SimpleNamespace(key=name, input_shapes=shapes)) == kind
    assert kind in COLUMNS


def test_a_table_shows_shares_of_the_whole():
    case = {"products": 6.0, "elementwise": 2.0, "all": 8.0, "floor": 4.0}
    cells = [cell.strip() for cell in table({"train x": case}).splitlines()[-1].strip("|").split("|")]
    assert (cells[0], cells[1], cells[3], cells[-1]) == ("train x", "50%", "75%", "8")
    assert cells[3 + COLUMNS.index("elementwise")] == "25%"


def test_a_step_that_does_not_exist_is_refused():
    with pytest.raises(UsageError, match="--only=explain chooses no step"):
        main(["--only=explain"])
