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
) -> dict[str, Tensor]:
    """Weighted terms [B]: "inside" = w_in CE(f(relevant), c) and "outside" = -w_out CE(f(residual), c).

    CE is -log of the probability of c, whatever the classifier's labels are.

    relevant, residual: the two parts of B clips, with their graph. target: [B], the explained class c.
    w_in, w_out: non-negative; a term of weight 0 is left out and its part never meets the classifier.
    """
    terms = {}
    if w_in and w_out:
        of_relevant, of_residual = evidence_of_parts(classifier, relevant, residual)
        terms["inside"] = w_in * of_relevant.surprise(target)
        terms["outside"] = -w_out * of_residual.surprise(target)
    elif w_in:
        terms["inside"] = w_in * classifier(relevant).surprise(target)
    elif w_out:
        terms["outside"] = -w_out * classifier(residual).surprise(target)
    return terms


def evidence_of_parts(
    classifier: AudioClassifier, relevant: Spectrogram, residual: Spectrogram
) -> tuple[Evidence, Evidence]:
    """What the classifier says of the relevant and of the residual part, by one pass of 2 B clips."""
    evidence = classifier(relevant.followed_by(residual))
    return evidence[: len(relevant)], evidence[len(relevant) :]
