"""The masking objective that L-MAC and LMAC-TD share.

Paissan et al., arXiv 2403.13086: the relevant part must get the class of the whole input, and the residual
must not.
"""

import torch.nn.functional as F
from torch import Tensor

from models.classifier import AudioClassifier
from models.errors import UsageError
from models.frontend import Spectrogram


def checked_weights(method: str, **weights: float) -> dict[str, float]:
    """The weights of a method's loss, by term. Raises UsageError for a negative one."""
    for name, weight in weights.items():
        if weight < 0:
            raise UsageError(f"{name}={weight} must be 0 (the term is left out) or more in {method}")
    return weights


def masking_terms(
    classifier: AudioClassifier,
    relevant: Spectrogram,
    residual: Spectrogram,
    target: Tensor,
    w_in: float,
    w_out: float,
) -> dict[str, Tensor]:
    """Weighted terms [B]: "inside" = w_in CE(f(relevant), c) and "outside" = -w_out CE(f(residual), c).

    relevant, residual: the two parts of B clips, with their graph. target: [B], the explained class c.
    w_in, w_out: non-negative; a term of weight 0 is left out and its part never meets the classifier.
    """
    parts = {"inside": (relevant, w_in), "outside": (residual, -w_out)}
    return {
        name: weight * F.cross_entropy(classifier(part).logits.float(), target, reduction="none")
        for name, (part, weight) in parts.items()
        if weight
    }
