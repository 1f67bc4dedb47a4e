"""The masking objective that L-MAC and LMAC-TD share.

Paissan et al., arXiv 2403.13086: the relevant part must get the class of the whole input, and the residual
must not.
"""

from torch import Tensor

from models.classifier import AudioClassifier, Evidence
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
    outside_limit: float | None = None,
) -> dict[str, Tensor]:
    """Weighted terms [B]: "inside" = w_in CE(f(relevant), c) and "outside" = -w_out min(CE(f(residual), c), limit).

    CE is -log of the probability of c, whatever the classifier's labels are.

    relevant, residual: the two parts of B clips, with their graph. target: [B], the explained class c.
    w_in, w_out: non-negative; a term of weight 0 is left out and its part never meets the classifier.
    outside_limit: the limit in nats; None: none, as published.
    """
    terms = {}
    if w_in and w_out:
        of_relevant, of_residual = evidence_of_parts(classifier, relevant, residual)
        terms["inside"] = w_in * of_relevant.surprise(target)
        terms["outside"] = -w_out * _up_to(outside_limit, of_residual.surprise(target))
    elif w_in:
        terms["inside"] = w_in * classifier(relevant).surprise(target)
    elif w_out:
        terms["outside"] = -w_out * _up_to(outside_limit, classifier(residual).surprise(target))
    return terms


def _up_to(limit: float | None, values: Tensor) -> Tensor:
    """The values, none of them above the limit; None: as they are."""
    return values if limit is None else values.clamp(max=limit)


def evidence_of_parts(
    classifier: AudioClassifier, relevant: Spectrogram, residual: Spectrogram
) -> tuple[Evidence, Evidence]:
    """What the classifier says of the relevant and of the residual part, by one pass of 2 B clips."""
    evidence = classifier(relevant.followed_by(residual))
    return evidence[: len(relevant)], evidence[len(relevant) :]
