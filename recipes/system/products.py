"""Matrix products in float32 by oneDNN, on CPUs whose widest instructions torch's usual library for them leaves idle.

Torch gives float32 products to MKL, which multiplies by AVX2 on AMD's CPUs, whatever they have. On one thread of an
EPYC with AVX-512 that is 110 GFLOP/s. oneDNN, which torch has for its convolutions, reaches 240.
"""

import warnings

import torch
from torch import Tensor

SMALLEST = 2**21  # operations; a smaller product takes longer by oneDNN, which plans each one anew

_overrides: list[torch.library.Library] = []  # an override lasts as long as its object


def multiply_by_onednn() -> bool:
    """Let oneDNN do all further products of float32 matrices, gradients included, where it is the faster library.

    Returns whether it does. Sums are taken in another order, so numbers agree to rounding. The answer rests on the kind
    of the machine alone, so that a run goes on as it began. For the start of a command, since it holds for the whole
    process.
    """
    if not _overrides and _is_faster():
        library = torch.library.Library("aten", "IMPL")
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=r"(?s).*Overriding a previously registered kernel")
            library.impl("mm", _mm, "CPU", allow_override=True)
            library.impl("addmm", _addmm, "CPU", allow_override=True)
        _overrides.append(library)
    return bool(_overrides)


def _is_faster() -> bool:
    cpu = torch.cpu.get_capabilities()
    is_wide = bool(cpu.get("avx512_f")) and "AMD" in cpu.get("cpu_name", "")
    has_both = torch.backends.mkl.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")
    return is_wide and has_both


def _suits(left: Tensor, right: Tensor) -> bool:
    """Whether oneDNN takes these factors, and is worth it; what does not fit together is torch's to refuse."""
    if left.dtype is not torch.float32 or right.dtype is not torch.float32 or left.ndim != 2 or right.ndim != 2:
        return False
    rows, shared = left.shape
    fits = shared == right.shape[0] and left.layout is right.layout is torch.strided
    return fits and 2 * rows * shared * right.shape[1] >= SMALLEST


def _mm(left: Tensor, right: Tensor) -> Tensor:
    """`torch.mm`: [M, K] times [K, N]."""
    if _suits(left, right):
        return torch.ops.mkldnn._linear_pointwise(left, right.t(), None, "none", [], "")
    # what writes into a tensor was not overridden
    return torch.mm(left, right, out=left.new_empty(0))


def _addmm(offset: Tensor, left: Tensor, right: Tensor, *, beta: float = 1, alpha: float = 1) -> Tensor:
    """`torch.addmm`: beta x offset + alpha x [M, K] times [K, N]."""
    is_bias = offset.dtype is torch.float32 and offset.shape == right.shape[1:] and beta == alpha == 1
    if is_bias and _suits(left, right):
        return torch.ops.mkldnn._linear_pointwise(left, right.t(), offset, "none", [], "")
    return torch.addmm(offset, left, right, beta=beta, alpha=alpha, out=left.new_empty(0))
