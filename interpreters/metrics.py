"""Scores of explanations, per clip. Pure functions of probabilities and masks; none takes a model.

Notation: f(x) [B, K] is the posterior of the whole input, c = argmax f(x) its predicted class. *Fidelity* looks at the
relevant part, *faithfulness* at the residual. Every function returns [B]; averaging is the caller's.

Sources: FID-I and FA, Della Libera et al., arXiv 2402.02754, equations (6) and (7); AI, AD, AG, Paissan et al.,
arXiv 2403.13086; sparseness and complexity, Chalasani et al. 2020 and Bhatt et al. 2020 as Quantus computes them.
"""

import torch
from torch import Tensor


def _check(**probabilities: Tensor) -> None:
    shapes = set()
    distributions = []  # kept on their device: a GPU is waited for once
    for name, value in probabilities.items():
        if value.ndim != 2 or not value.is_floating_point():
            raise ValueError(f"{name} must be probabilities [B, K], got {value.dtype} {tuple(value.shape)}")
        sums_to_one = ((value.sum(dim=1) - 1).abs() <= 1e-3).all()
        distributions.append(sums_to_one & (value >= 0).all())
        shapes.add(tuple(value.shape))
    for name, is_distribution in zip(probabilities, torch.stack(distributions).tolist(), strict=True):
        if not is_distribution:
            raise ValueError(f"{name} must be probabilities: rows in [0, 1] that sum to 1 (softmax the logits once)")
    if len(shapes) != 1:
        raise ValueError(f"{', '.join(probabilities)} must have one shape, got {sorted(shapes)}")


def _of_prediction(p_input: Tensor, p_other: Tensor) -> Tensor:
    """[B] probability that `p_other` gives to the class predicted on the whole input."""
    return p_other.gather(1, p_input.argmax(dim=1, keepdim=True)).squeeze(1)


def fidelity_to_input(p_input: Tensor, p_relevant: Tensor) -> Tensor:
    """FID-I: 1 where the relevant part alone gets the class of the whole input. Larger is better."""
    _check(p_input=p_input, p_relevant=p_relevant)
    return (p_input.argmax(dim=1) == p_relevant.argmax(dim=1)).float()


def faithfulness(p_input: Tensor, p_residual: Tensor) -> Tensor:
    """FA: f_c(x) - f_c(residual), in [-1, 1]: what the prediction loses without the relevant part. Larger is better."""
    _check(p_input=p_input, p_residual=p_residual)
    return _of_prediction(p_input, p_input) - _of_prediction(p_input, p_residual)


def average_increase(p_input: Tensor, p_relevant: Tensor) -> Tensor:
    """AI in percent: 100 where the relevant part is more convincing than the whole, else 0. Larger is better."""
    _check(p_input=p_input, p_relevant=p_relevant)
    return 100.0 * (_of_prediction(p_input, p_relevant) > _of_prediction(p_input, p_input)).float()


def average_drop(p_input: Tensor, p_relevant: Tensor) -> Tensor:
    """AD in percent: 100 max(0, f_c(x) - f_c(relevant)) / f_c(x). Smaller is better."""
    _check(p_input=p_input, p_relevant=p_relevant)
    whole = _of_prediction(p_input, p_input)  # at least 1 / K
    return 100.0 * (whole - _of_prediction(p_input, p_relevant)).clamp(min=0) / whole


def average_gain(p_input: Tensor, p_relevant: Tensor) -> Tensor:
    """AG in percent: 100 max(0, f_c(relevant) - f_c(x)) / (1 - f_c(x)), 0 where f_c(x) is 1. Larger is better."""
    _check(p_input=p_input, p_relevant=p_relevant)
    whole = _of_prediction(p_input, p_input)
    gain = (_of_prediction(p_input, p_relevant) - whole).clamp(min=0)
    room = 1 - whole
    return 100.0 * torch.where(room > 0, gain / room.clamp(min=torch.finfo(room.dtype).tiny), gain).clamp(max=1)


def _flat(mask: Tensor) -> Tensor:
    """[B, ...] to its absolute values [B, n]; sums over them are taken in float64."""
    return mask.flatten(1).abs()


def sparseness(mask: Tensor) -> Tensor:
    """SPS: Gini index of |mask| over all time-frequency bins, in [0, 1). NaN where it is all zero, so undefined."""
    values = _flat(mask).sort(dim=1).values.double()
    n = values.shape[1]
    rank = torch.arange(1, n + 1, device=values.device, dtype=values.dtype)
    return ((2 * rank - n - 1) * values).sum(dim=1) / (n * values.sum(dim=1))


def complexity(mask: Tensor) -> Tensor:
    """COMP: entropy in nats of |mask| normalised to sum 1, in [0, ln n]. NaN where it is all zero, so undefined."""
    values = _flat(mask).double()
    share = values / values.sum(dim=1, keepdim=True)
    return torch.special.entr(share).sum(dim=1)


def kept_fraction(mask: Tensor) -> Tensor:
    """Mean of a mask in [0, 1]: the fraction of the time-frequency plane kept."""
    return mask.flatten(1).float().mean(dim=1)
