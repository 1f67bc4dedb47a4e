"""Class-conditioned activations: how far each place of a classifier's feature maps speaks for a class.

Grad-CAM weighs a map's channels by their mean gradient (Selvaraju et al., arXiv 1610.02391); the elementwise product
of map and gradient is finer in place and noisier (Jiang et al., LayerCAM, IEEE TIP 2021).
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from models.classifier import AudioClassifier
from models.errors import UsageError
from models.frontend import Spectrogram


@dataclass(frozen=True)
class Activation:
    """One feature map of B clips and the gradient of the class's logit at it, [B, C, h, w] each.

    cam: [B, 1, h, w] Grad-CAM before its ReLU.
    """

    features: Tensor
    gradient: Tensor
    cam: Tensor

    @property
    def product(self) -> Tensor:
        """[B, C, h, w] map times gradient, over its root mean square in the clip."""
        product = self.features * self.gradient
        rms = product.square().mean(dim=(1, 2, 3), keepdim=True).sqrt()
        return product / rms.clamp(min=1e-12)


def weighted_channels(features: Tensor, gradient: Tensor) -> Tensor:
    """[N, 1, h, w] Grad-CAM before its ReLU: the channels of maps [N, C, h, w] weighted by their mean gradient."""
    return (gradient.mean(dim=(2, 3), keepdim=True) * features).sum(dim=1, keepdim=True)


def class_activations(
    classifier: AudioClassifier, spectrogram: Spectrogram, choose: Callable[[Tensor], Tensor]
) -> tuple[Tensor, tuple[Activation, ...]]:
    """The classes [B] asked about and their activations, one for every feature map of the classifier, fine to coarse.

    choose: from the logits [B, K] of these B clips to the classes [B]. Nothing of what is returned has a graph. Where
    clips are heard in windows, every window weighs its channels by its own gradient.
    Raises UsageError for a feature map that does not lead to the logits.
    """
    with torch.enable_grad():
        heard = replace(spectrogram, log_magnitude=spectrogram.log_magnitude.detach().requires_grad_())
        evidence = classifier(heard)
        target = choose(evidence.logits.detach())
        score = evidence.logits.gather(1, target[:, None]).sum()
        features = evidence.features
        sources = [source_of(feature_map) for feature_map in features.leading_maps]
        slopes = torch.autograd.grad(score, [_with_gradient(source) for source in sources], allow_unused=True)
    activations = []
    for number, (feature_map, slope) in enumerate(zip(features.leading_maps, slopes, strict=True)):
        if slope is None:
            raise UsageError(
                f"a class activation needs feature maps that lead to the logits, and map {number} of this classifier "
                "is a detached or copied one: choose another classifier"
            )
        values, gradient = feature_map.detach().float(), seen_as(feature_map, slope).float()
        cam = weighted_channels(values, gradient)
        activations.append(Activation(*map(features.joined, (values, gradient, cam))))
    return target, tuple(activations)


def source_of(features: Tensor) -> Tensor:
    """The tensor that the network goes on with: a feature map is often a view of it, and autograd knows that tensor."""
    return features if features._base is None else features._base


def seen_as(features: Tensor, slope: Tensor) -> Tensor:
    """A gradient of `source_of(features)`, seen as the feature map [B, C, h, w] sees that tensor."""
    source = source_of(features)
    laid_out = torch.empty_strided(source.shape, source.stride()).to(slope).copy_(slope)
    return laid_out.as_strided(features.shape, features.stride(), features.storage_offset())


def _with_gradient(source: Tensor) -> Tensor:
    """A tensor that autograd takes: one without a graph leads nowhere, and gets no gradient."""
    return source if source.requires_grad else source.detach().requires_grad_()
