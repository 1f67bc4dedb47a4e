"""The losses that a classifier is trained with, by the names that recipes give them."""

import math
from collections.abc import Callable, Mapping

import torch.nn.functional as F
from torch import Tensor

from models.classifier import AudioClassifier, CosineHead
from models.errors import UsageError
from models.labels import SEVERAL_LABELS

Loss = Callable[[Tensor, Tensor], Tensor]
"""logits [B, K] of the classifier, target [B, K] of class weights -> mean over clips."""

LARGEST_COSINE = 1 - 1e-7
"""Bound of the cosines, as in SpeechBrain: at 1 the gradient of the sine is infinite."""


class AdditiveMargin:
    """Additive-margin softmax (Wang et al., IEEE SPL 2018): cross-entropy of scale (cos - margin target).

    The margin is taken off each cosine in proportion to the class's weight in the target, which sums to 1 for a clip.
    Without margin this is the cross-entropy of the classifier's logits.
    """

    def __init__(self, margin: float, scale: float):
        self.margin, self.scale = margin, scale

    def __call__(self, logits: Tensor, target: Tensor) -> Tensor:
        """Mean over clips of the loss of logits [B, K], scale times cosine, towards target [B, K]."""
        return F.cross_entropy(logits.float() - self.scale * self.margin * target, target)


class AdditiveAngularMargin:
    """Additive-angular-margin softmax (Deng et al., CVPR 2019): cross-entropy of scale cos(angle + margin).

    As SpeechBrain has it, which trained the published FocalNet and ViT: beyond the angle pi - margin, where the cosine
    would rise again, margin sin(margin) is taken off the cosine instead. A class of weight in (0, 1) gets the mean
    of its logits with and without margin, by that weight.

    margin: radians.
    """

    def __init__(self, margin: float, scale: float):
        self.margin, self.scale = margin, scale

    def __call__(self, logits: Tensor, target: Tensor) -> Tensor:
        """Mean over clips of the loss of logits [B, K], scale times cosine, towards target [B, K]."""
        cosine = (logits.float() / self.scale).clamp(-LARGEST_COSINE, LARGEST_COSINE)
        sine = (1 - cosine.square()).sqrt()
        turned = cosine * math.cos(self.margin) - sine * math.sin(self.margin)
        lowered = cosine - self.margin * math.sin(self.margin)
        with_margin = turned.where(cosine > -math.cos(self.margin), lowered)
        return F.cross_entropy(self.scale * (cosine + target * (with_margin - cosine)), target)


class CrossEntropy:
    """Cross-entropy of the classifier's raw outputs, without margin or scale."""

    def __init__(self, margin: float, scale: float):
        if margin:
            raise UsageError(f"loss=cross_entropy has no margin, and margin={margin}: pass --margin=0")
        if scale != 1:
            raise UsageError(
                f"loss=cross_entropy takes the raw cosines, and logit_scale={scale:g} multiplies them: pass "
                "--logit_scale=1, or --loss=additive_margin --margin=0 for the cross-entropy of scaled ones"
            )

    def __call__(self, logits: Tensor, target: Tensor) -> Tensor:
        """Mean over clips of the loss of logits [B, K] towards target [B, K]."""
        return F.cross_entropy(logits.float(), target)


class BinaryCrossEntropy:
    """Binary cross-entropy of every class, mean over the classes, for a classifier of several labels."""

    def __init__(self, margin: float, scale: float):
        if margin:
            raise UsageError(f"loss=binary_cross_entropy has no margin, and margin={margin}: pass --margin=0")

    def __call__(self, logits: Tensor, target: Tensor) -> Tensor:
        """Mean over clips of the loss of logits [B, K] towards target [B, K]."""
        return SEVERAL_LABELS.cross_entropy(logits, target).mean()


LOSSES: dict[str, Callable[[float, float], Loss]] = {
    "additive_margin": AdditiveMargin,
    "additive_angular_margin": AdditiveAngularMargin,
    "cross_entropy": CrossEntropy,
    "binary_cross_entropy": BinaryCrossEntropy,
}
"""Each loss is made from a margin and from the factor between the classifier's logits and cosines."""


def classifier_loss(values: Mapping, classifier: AudioClassifier) -> Loss:
    """The loss that a recipe's `loss` and `margin` ask for, for its classifier.

    Raises UsageError where the recipe sets a margin or a scale that the loss does not have, for a margin without
    cosines, and for a loss that does not fit what the classifier's labels are.
    """
    labels = classifier.describe().labels
    if labels.exclusive == (values["loss"] == "binary_cross_entropy"):
        fitting = "additive_margin" if labels.exclusive else "binary_cross_entropy"
        raise UsageError(
            f"loss={values['loss']} does not fit a classifier with labels={labels.name}: pass --loss={fitting}, or "
            "change labels"
        )
    name, head = values["loss"], getattr(classifier, "head", classifier)
    if name == "additive_angular_margin" and not isinstance(head, CosineHead):
        raise UsageError(
            f"loss={name} needs a head that gives cosines, not a {type(head).__name__}: pass --head=cosine, or "
            "--loss=additive_margin --margin=0"
        )
    windows = getattr(classifier, "windows", None)
    takes_cosines = name == "additive_angular_margin" or values["margin"] > 0
    if takes_cosines and windows is not None and not windows.keeps_logits:
        raise UsageError(
            f"a margin is taken off cosines, and windows with pooling={windows.pooling} leave none: pool logits, or "
            "pass --loss=additive_margin --margin=0"
        )
    return LOSSES[name](values["margin"], classifier.describe().logit_scale)
