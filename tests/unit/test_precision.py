"""`precision: auto`: what it chooses for a device and a network."""

import pytest
import torch

from recipes.training import auto_precision


@pytest.mark.parametrize(
    ("gain", "plain", "convolutional"), [(8.0, "bf16", "bf16"), (2.0, "bf16", "fp32"), (0.8, "fp32", "fp32")]
)
def test_a_cpu_takes_bf16_where_it_multiplies_it_faster(monkeypatch, gain, plain, convolutional):
    monkeypatch.setattr("recipes.training.bf16_gain", lambda: gain)
    large = torch.nn.Linear(1000, 1000, device="meta")
    assert auto_precision("cpu", [large, torch.nn.BatchNorm1d(2)]) == plain
    assert auto_precision("cpu", [large, torch.nn.Sequential(torch.nn.BatchNorm2d(2))]) == convolutional
    assert auto_precision("cpu", [torch.nn.Linear(999, 999, device="meta")]) == "fp32"


@pytest.mark.parametrize("native", [True, False])
def test_a_gpu_takes_bf16_where_it_is_native(monkeypatch, native):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: native)
    assert auto_precision("cuda:0", [torch.nn.BatchNorm2d(2)]) == ("bf16" if native else "fp32")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="asks a CUDA device what it supports, and there is none")
def test_the_gpu_at_hand_has_a_precision():
    assert auto_precision("cuda", []) in ("bf16", "fp32")
