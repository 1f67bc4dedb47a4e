"""What checks of explanations are made of: comparing two maps, ranking bins, randomising a network.

Sources: J. Adebayo et al., Sanity Checks for Saliency Maps, 2018 (cascading randomisation, rank correlation, SSIM);
V. Petsiuk et al., RISE, 2018 (deletion and insertion).
"""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


def unit_range(maps: Tensor) -> Tensor:
    """Every map of [B, T, F] scaled to [0, 1]; a constant one becomes 0."""
    low, high = maps.aminmax(dim=-1)
    low, high = low.amin(dim=1)[:, None, None], high.amax(dim=1)[:, None, None]
    return (maps - low) / (high - low).clamp(min=torch.finfo(maps.dtype).tiny)


def ranks(maps: Tensor) -> Tensor:
    """[B, T, F] in [0, 1], the share of a map's bins that are smaller than each one; equal values share a rank."""
    values = maps.flatten(1).contiguous()
    ordered = values.sort(dim=1).values
    below, upto = (torch.searchsorted(ordered, values, right=right) for right in (False, True))
    return ((below + upto).double() / (2 * values.shape[1])).view(maps.shape)


def rank_correlation(first: Tensor, second: Tensor) -> Tensor:
    """Spearman's rank correlation [B] of two maps [B, T, F]; equal values share a rank. NaN for a constant map."""
    first_ranks, second_ranks = ranks(first).flatten(1), ranks(second).flatten(1)
    first_centred = first_ranks - first_ranks.mean(dim=1, keepdim=True)
    second_centred = second_ranks - second_ranks.mean(dim=1, keepdim=True)
    return F.cosine_similarity(first_centred, second_centred, dim=1, eps=0)


def ssim(first: Tensor, second: Tensor) -> Tensor:
    """Structural similarity [B] of two maps [B, T, F] in [0, 1], T and F at least 11 (Z. Wang et al., 2004).

    Gaussian window of 11 x 11 bins with a deviation of 1.5, constants 0.01 and 0.03, mean over whole windows.
    """
    window = torch.exp(-((torch.arange(11, device=first.device) - 5.0) ** 2) / (2 * 1.5**2))
    window = window / window.sum()

    def smooth(maps: Tensor) -> Tensor:
        rows = F.conv2d(maps.unsqueeze(1).float(), window[None, None, :, None])
        return F.conv2d(rows, window[None, None, None, :])

    means = smooth(first), smooth(second)
    variances = smooth(first.square()) - means[0].square(), smooth(second.square()) - means[1].square()
    covariance = smooth(first * second) - means[0] * means[1]
    level = (2 * means[0] * means[1] + 1e-4) / (means[0].square() + means[1].square() + 1e-4)
    return (level * (2 * covariance + 9e-4) / (sum(variances) + 9e-4)).mean(dim=(1, 2, 3))


def importance_order(maps: Tensor, seed: int = 0) -> Tensor:
    """[B, T, F] share of the map's bins that come before each one, in [0, 1), the most important first.

    Equal bins come in an order drawn from `seed`, the same for every map.
    """
    generator = torch.Generator().manual_seed(seed)
    values = maps.flatten(1)
    drawn = torch.randperm(values.shape[1], generator=generator).to(maps.device)
    order = drawn[values[:, drawn].sort(dim=1, descending=True, stable=True).indices]
    place = torch.arange(values.shape[1], device=maps.device).expand_as(order)
    return torch.empty_like(order).scatter_(1, order, place).view(maps.shape) / values.shape[1]


def layers(network: nn.Module) -> list[tuple[str, nn.Module]]:
    """Every module with parameters of its own, by name, from stem to head (the order in which they were made)."""
    return [(name, module) for name, module in network.named_modules() if any(True for _ in module.parameters(False))]


@torch.no_grad()
def randomize(layer: nn.Module) -> None:
    """Draw a layer's own parameters afresh from torch's generator, by its `reset_parameters` where it has one.

    Other parameters, such as a class token, are drawn from a normal distribution of their own mean and deviation.
    """
    if callable(reset := getattr(layer, "reset_parameters", None)):
        reset()
        return
    for parameter in layer.parameters(recurse=False):
        deviation, mean = torch.std_mean(parameter, correction=0)
        parameter.copy_(mean + deviation * torch.randn_like(parameter))


@torch.no_grad()
def settle(layers: Sequence[nn.Module], run: Callable[[], object]) -> None:
    """Give the batch norms among layers drawn afresh the statistics of what reaches them in one call of `run`.

    With statistics of 0 and 1 they would pass on another scale: over many layers the signal fades, and a map then
    changes because nothing arrives any more, not because nothing is known.
    """
    norms = [layer for layer in layers if isinstance(layer, _BatchNorm) and layer.track_running_stats]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None
        norm.train()
    run()
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
        norm.eval()
