"""`precision: auto`: what it chooses for a device and a network."""

import pytest
import torch

from recipes.training.brain import auto_precision, multiply_in_float32

AMX = {"amx_bf16": True, "avx512_bf16": True, "cpu_name": "Intel Xeon"}


@pytest.mark.parametrize(
    ("cpu", "plain", "convolutional"),
    [
        (AMX, "bf16", "bf16"),
        ({"avx512_bf16": True, "cpu_name": "AMD EPYC 9354"}, "bf16", "fp32"),
        (AMX | {"amx_bf16": False}, "fp32", "fp32"),
        ({}, "fp32", "fp32"),
    ],
)
def test_a_cpu_takes_bf16_where_it_multiplies_it_faster(monkeypatch, cpu, plain, convolutional):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: cpu)
    large = torch.nn.Linear(1000, 1000, device="meta")
    assert auto_precision("cpu", [large, torch.nn.BatchNorm1d(2)]) == plain
    assert auto_precision("cpu", [large, torch.nn.Sequential(torch.nn.BatchNorm2d(2))]) == convolutional
    assert auto_precision("cpu", [torch.nn.Linear(999, 999, device="meta")]) == "fp32"


def test_fp32_on_a_gpu_is_not_tf32_once_a_command_has_started():
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    multiply_in_float32()
    assert not torch.backends.cuda.matmul.allow_tf32
    assert not torch.backends.cudnn.allow_tf32


@pytest.mark.parametrize("native", [True, False])
def test_a_gpu_takes_bf16_where_it_is_native(monkeypatch, native):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: native)
    assert auto_precision("cuda:0", [torch.nn.BatchNorm2d(2)]) == ("bf16" if native else "fp32")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="asks a CUDA device what it supports, and there is none")
def test_the_gpu_at_hand_has_a_precision():
    assert auto_precision("cuda", []) in ("bf16", "fp32")
