"""The benchmark's table: floors, rates, and which cases there are."""

import pytest
import torch
from torch import nn

from tests.helpers import refusal
from tools import bench
from tools.bench import main, row, table
from tools.bench_cases import (
    PAPER_CLASSIFIERS,
    PAPER_INTERPRETERS,
    Bench,
    all_cases,
    flops_of,
    networks_of,
    recipe_of,
    timed,
)

RATE = {"fp32": 1e9, "bf16": 4e9, "bytes": 1e8}
CASE = {
    "items": 4,
    "seconds": 2.0,
    "flops": 1e9,
    "bytes": 0.0,
    "precision": "fp32",
    "note": "",
    "peak_gb": 1.25,
    "cpu": "AVX2",
}


def test_a_row_holds_the_rate_the_time_and_the_share_of_the_floor():
    assert row("score lmac", CASE, RATE, None) == ["score lmac", "", "50%", "AVX2", "fp32", "4", "1.25", "2", "500", ""]
    # bf16 multiplies four times as fast, so that now the bytes are the floor: 1.5 of 2 s
    moved = CASE | {"precision": "bf16", "bytes": 1.5e8}
    assert row("front end", moved, RATE, None)[2] == "75%"
    older = CASE | {"seconds_an_item_before": 1.25}  # 0.5 s an item now
    assert row("score lmac", older, RATE, None)[1] == "2.50"


def test_training_waits_for_the_loader():
    # 0.5 s a clip in the network, 0.125 s in the loader
    assert row("train lmac", CASE | {"note": "0.8M parameters"}, RATE, 0.125)[-1] == "0.8M parameters, waiting 20.0%"
    assert row("explain lmac", CASE, RATE, 0.125)[-1] == ""


def test_the_loaders_rate_is_taken_from_its_own_case():
    load = CASE | {"items": 8, "seconds": 1.0}
    shown = table("cpu", RATE, {"load": load, "train lmac": CASE})
    assert shown.startswith("cpu: fp32 1 G/s, bf16 4 G/s, bytes 0 G/s\n\n| case |")
    assert shown.splitlines()[-1].endswith("| waiting 20.0% |")


def test_the_papers_sizes_are_measured_on_demand():
    assert "train paper/vit" not in all_cases(long=False)
    assert {f"train {name}" for name in PAPER_CLASSIFIERS + PAPER_INTERPRETERS} <= set(all_cases(long=True))
    assert "train modulation" not in all_cases(long=True)


def test_a_call_is_timed_at_least_twice_after_one_that_warms_up():
    calls = []
    assert timed(lambda: calls.append(None), budget=0.0, device="cpu") >= 0
    assert len(calls) == 3


def test_a_precision_overrules_the_recipes():
    assert Bench(precision="bf16").precision_of("fp32") == "bf16"
    assert Bench().precision_of("fp32") == "fp32"


def test_a_beginning_that_chooses_nothing_is_refused():
    told = refusal(main, ["--only=nothing"])
    assert told.startswith("--only=nothing chooses no case: the cases are start: a misspelt key, ")


def test_a_published_set_up_is_measured_on_the_classifier_of_its_paper():
    recipe = recipe_of("paper/lmac_td_alpha075", "--width=16", "--layers=1", "--intra_layers=1")
    classifier, interpreter = networks_of(recipe, "cpu")
    assert sum(parameter.numel() for parameter in classifier.parameters()) > 75e6
    assert type(interpreter).__name__ == "LMACTD"


def test_two_checkouts_are_measured_in_turn_and_their_medians_compared(monkeypatch, tmp_path):
    here, there, order = iter([2.0, 8.0, 4.0]), iter([6.0, 9.0, 30.0]), []

    def measured(name, bench, threads, root=bench.ROOT):
        order.append(root)
        return CASE | {"seconds": next(there if root == tmp_path else here)}

    monkeypatch.setattr(bench, "measure_alone", measured)
    case = bench.measure_beside("score lmac", Bench(), 1, tmp_path)
    assert order == [tmp_path, bench.ROOT] * 3
    assert (case["seconds"], case["seconds_an_item_before"]) == (4.0, 9.0 / 4)


def test_what_is_no_checkout_is_refused(tmp_path):
    told = refusal(main, [f"--before={tmp_path}", "--only=load"])
    assert told == f"--before={tmp_path} has no tools/bench.py: give a checkout of this project"


@pytest.mark.parametrize(
    ("layer", "flops"),
    [
        # two for each of 2 clips, 6 outputs, 9 x 11 positions and the 25 weights of a kernel that sees one channel
        (nn.Conv2d(6, 6, 5, padding=2, groups=6), 2 * 2 * 6 * 9 * 11 * 25),
        (nn.Conv2d(6, 8, 3), 2 * 2 * 8 * 7 * 9 * 6 * 9),
        (nn.ConvTranspose2d(6, 4, 3, stride=2), 2 * 2 * 6 * 9 * 11 * 4 * 9),
    ],
)
def test_both_gradients_of_a_convolution_take_as_many_operations_as_it_does(layer, flops):
    x = torch.randn(2, 6, 9, 11, requires_grad=True)
    assert flops_of(lambda: layer(x)) == flops
    y = layer(x).sum()
    assert flops_of(lambda: y.backward()) == 2 * flops


def test_the_operations_of_a_gradient_by_the_input_are_counted():
    """A gradient method asks for it by `autograd.grad`, which torch's tracker of modules refuses."""
    layer, x = nn.Linear(7, 5), torch.randn(3, 7, requires_grad=True)
    layer.requires_grad_(False)
    forward = 2 * 3 * 7 * 5
    assert flops_of(lambda: torch.autograd.grad(layer(x).sum(), x)) == 2 * forward
