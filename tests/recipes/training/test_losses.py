"""The losses of a classifier by hand; tests/reference holds the two with a margin against SpeechBrain's."""

import math
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F

from models.errors import UsageError
from models.labels import ONE_LABEL, SEVERAL_LABELS
from models.windows import POOLINGS, Windows
from recipes.config import rules
from recipes.training.losses import LOSSES, classifier_loss
from tests.helpers import refusal

TARGET = torch.tensor([[1.0, 0.0]])


def test_every_name_that_a_recipe_may_give_is_a_loss():
    assert tuple(LOSSES) == rules.LOSSES


def test_the_margin_is_taken_off_each_cosine_by_its_weight():
    # scale 10, cosines 0.3 and 0.1: margin 0.2 makes both logits 1
    loss, logits = LOSSES["additive_margin"](0.2, 10.0), torch.tensor([[3.0, 1.0]])
    assert loss(logits, TARGET).item() == pytest.approx(math.log(2))
    # half the weight on each takes 1 off both: log(e^2 + e^0) - (2 + 0) / 2
    half = loss(logits, torch.tensor([[0.5, 0.5]]))
    assert half.item() == pytest.approx(math.log(math.e**2 + 1) - 1)


def test_an_angular_margin_turns_the_target():
    # scale 10, angles 60 and 90 degrees: a margin of 30 makes both cosines 0
    loss, logits = LOSSES["additive_angular_margin"](math.pi / 6, 10.0), torch.tensor([[5.0, 0.0]])
    assert loss(logits, TARGET).item() == pytest.approx(math.log(2))
    # half the weight on each: 60 degrees become the mean of 1/2 and 0, 90 that of 0 and cos 120
    half = loss(logits, torch.tensor([[0.5, 0.5]]))
    assert half.item() == pytest.approx(math.log(math.exp(2.5) + math.exp(-2.5)))


def test_beyond_half_a_turn_an_angular_margin_still_lowers_the_cosine():
    # the angle 180 degrees: cos 210 would be higher than cos 180
    loss, logits = LOSSES["additive_angular_margin"](math.pi / 6, 1.0), torch.tensor([[-1.0, 0.0]])
    lowered = -1 - math.pi / 6 * 0.5
    assert loss(logits, TARGET).item() == pytest.approx(math.log(1 + math.exp(-lowered)))


@pytest.mark.parametrize("cosine", [-1.0, 1.0])
def test_at_its_ends_the_slope_of_an_angular_margin_is_finite(cosine):
    logits = torch.tensor([[30 * cosine, 3.0]], requires_grad=True)
    LOSSES["additive_angular_margin"](0.2, 30.0)(logits, TARGET).backward()
    assert logits.grad.isfinite().all()


@pytest.mark.parametrize("name", ["additive_margin", "additive_angular_margin", "cross_entropy"])
def test_without_margin_and_scale_every_loss_is_cross_entropy(name):
    logits, label = torch.tensor([[0.5, 0.2, -0.9], [0.0, 0.1, 0.0]]), torch.tensor([1, 2])
    loss = LOSSES[name](0.0, 1.0)(logits, F.one_hot(label, 3).float())
    assert loss.item() == pytest.approx(F.cross_entropy(logits, label).item())


def test_binary_cross_entropy_is_torchs_and_of_each_class():
    logits, truth = torch.tensor([[0.5, 0.2, -0.9], [0.0, 0.1, 0.0]]), torch.tensor([[1.0, 0, 1], [0, 0.3, 0]])
    loss = LOSSES["binary_cross_entropy"](0.0, 30.0)(logits, truth)
    assert loss.item() == pytest.approx(F.binary_cross_entropy_with_logits(logits, truth).item())
    with pytest.raises(UsageError, match="loss=binary_cross_entropy has no margin"):
        LOSSES["binary_cross_entropy"](0.2, 30.0)


@pytest.mark.parametrize(
    ("loss", "labels", "fitting"),
    [
        ("additive_margin", SEVERAL_LABELS, "binary_cross_entropy"),
        ("binary_cross_entropy", ONE_LABEL, "additive_margin"),
    ],
)
def test_a_loss_that_does_not_fit_the_labels_is_refused(loss, labels, fitting):
    classifier = SimpleNamespace(describe=lambda: SimpleNamespace(labels=labels, logit_scale=1.0))
    told = refusal(classifier_loss, {"loss": loss, "margin": 0.0}, classifier)
    assert told == (
        f"loss={loss} does not fit a classifier with labels={labels.name}: pass --loss={fitting}, or change labels"
    )
    assert callable(classifier_loss({"loss": fitting, "margin": 0.0}, classifier))


def test_a_margin_or_a_scale_has_no_place_in_plain_cross_entropy():
    with pytest.raises(UsageError, match=r"loss=cross_entropy has no margin, and margin=0\.2: pass --margin=0"):
        LOSSES["cross_entropy"](0.2, 1.0)
    with pytest.raises(UsageError, match=r"logit_scale=30 multiplies them: pass --logit_scale=1, or --loss=add"):
        LOSSES["cross_entropy"](0.0, 30.0)


@pytest.mark.parametrize("pooling", POOLINGS)
def test_a_margin_needs_the_cosines_that_pooled_probabilities_have_lost(pooling, cnn14):
    cnn14.windows = Windows(1.0, pooling=pooling)
    margins = ({"loss": "additive_margin", "margin": 0.2}, {"loss": "additive_angular_margin", "margin": 0.0})
    for values in margins:
        if pooling.endswith("logit"):
            assert classifier_loss(values, cnn14).scale == 30.0
        else:
            sentence = refusal(classifier_loss, values, cnn14)
            assert sentence.startswith(f"a margin is taken off cosines, and windows with pooling={pooling} leave none")
    assert classifier_loss({"loss": "additive_margin", "margin": 0.0}, cnn14)(torch.zeros(1, 2), TARGET) > 0
