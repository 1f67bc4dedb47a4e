"""Float32 products by oneDNN: against products in float64, and against what torch does where oneDNN is not asked."""

import pytest
import torch
from torch import nn
from torch.profiler import profile

from recipes.system import products

pytestmark = pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="this torch has no oneDNN")


@pytest.fixture(autouse=True)
def overridden(monkeypatch):
    """The override, whatever this CPU is, until the test ends."""
    monkeypatch.setattr(products, "_overrides", [])
    monkeypatch.setattr(products, "_is_faster", lambda: True)
    assert products.multiply_by_onednn()
    yield
    for library in products._overrides:
        library._destroy()


def calls_of_onednn(call) -> int:
    with profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profiled:
        call()
    return sum(event.name == "mkldnn::_linear_pointwise" for event in profiled.events())


def test_a_layer_and_its_gradients_are_those_of_float64():
    torch.manual_seed(0)
    layer, x = nn.Linear(96, 160), torch.randn(3, 130, 96, requires_grad=True)
    exact, exact_x = nn.Linear(96, 160).double(), x.detach().double().requires_grad_()
    exact.load_state_dict(layer.state_dict())

    def learn():
        layer(x).square().sum().backward()

    assert calls_of_onednn(learn) == 3
    exact(exact_x).square().sum().backward()
    pairs = [(x, exact_x), (layer.weight, exact.weight), (layer.bias, exact.bias)]
    for ours, reference in pairs:
        torch.testing.assert_close(ours.grad, reference.grad.float(), rtol=1e-4, atol=1e-3)
    torch.testing.assert_close(layer(x), exact(exact_x).float(), rtol=1e-5, atol=1e-5)


def test_factors_may_lie_in_any_order():
    torch.manual_seed(0)
    left, right = torch.randn(200, 150).t(), torch.randn(300, 400)[::2, ::3]
    wide = torch.randn(200, 134).t()[:, :200]
    assert calls_of_onednn(lambda: wide @ torch.randn(200, 150)) == 1
    for a, b in ((wide, left.t()), (left[:, :150], right)):
        torch.testing.assert_close(a @ b, (a.double() @ b.double()).float(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "call",
    [
        lambda: torch.ones(8, 8) @ torch.ones(8, 8),
        lambda: torch.ones(200, 200, dtype=torch.float64) @ torch.ones(200, 200, dtype=torch.float64),
        lambda: torch.addmm(torch.ones(200), torch.ones(200, 200), torch.ones(200, 200), beta=2),
        lambda: torch.addmm(torch.ones(200, 200), torch.ones(200, 200), torch.ones(200, 200)),
    ],
)
def test_the_rest_is_torchs(call):
    assert calls_of_onednn(call) == 0
    (value,) = call().unique()
    assert value in (8, 200, 201, 202)


def test_factors_that_do_not_fit_are_refused_as_ever():
    with pytest.raises(RuntimeError, match="cannot be multiplied"):
        torch.ones(200, 200) @ torch.ones(201, 200)
    with pytest.raises(RuntimeError, match="same dtype"):
        torch.ones(200, 200) @ torch.ones(200, 200, dtype=torch.float64)


@pytest.mark.parametrize(
    ("cpu", "is_faster"),
    [
        ({"avx512_f": True, "cpu_name": "AMD EPYC 9575F"}, True),
        ({"avx512_f": False, "cpu_name": "AMD EPYC 7763"}, False),
        ({"avx512_f": True, "cpu_name": "Intel Xeon"}, False),
        ({}, False),
    ],
)
def test_it_is_for_cpus_of_amd_with_avx_512(monkeypatch, cpu, is_faster):
    monkeypatch.undo()
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: cpu)
    monkeypatch.setattr(torch.backends.mkl, "is_available", lambda: True)
    assert products._is_faster() == is_faster
