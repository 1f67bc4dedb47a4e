"""One label or several: probabilities, losses and scores by hand, and against torch and scikit-learn."""

import math

import pytest
import torch
import torch.nn.functional as F
from sklearn.metrics import average_precision_score, f1_score, roc_auc_score

from models.classifier import AudioClassifier, Evidence, Features
from models.errors import UsageError
from models.frontend import FrontEnd
from models.labels import NO_CLASS, ONE_LABEL, SEVERAL_LABELS, labels_of
from models.ranking import macro_auc, macro_f1, mean_average_precision

LOGITS = torch.tensor([[2.0, -1.0, 0.0], [-3.0, -2.0, -1.0]])


def evidence(logits: torch.Tensor = LOGITS, labels=SEVERAL_LABELS) -> Evidence:
    return Evidence(logits, Features(logits), labels)


def test_one_label_is_a_softmax_and_the_default():
    heard = Evidence(LOGITS, Features(LOGITS))
    assert heard.labels == ONE_LABEL
    assert torch.equal(heard.probabilities, LOGITS.softmax(dim=1))
    assert torch.equal(heard.about(torch.tensor([1, 1])), LOGITS.softmax(dim=1))
    target = torch.tensor([1, 2])
    assert torch.equal(heard.surprise(target), F.cross_entropy(LOGITS, target, reduction="none"))
    # of exactly one class a clip is said that it is heard
    assert ONE_LABEL.active(heard.probabilities).tolist() == [[True, False, False], [False, False, True]]
    assert heard.answer(target).tolist() == [0, 2]


def test_several_labels_are_a_sigmoid_each():
    heard = evidence()
    assert heard.probabilities[0].tolist() == pytest.approx([1 / (1 + math.exp(-z)) for z in (2, -1, 0)])
    # 0.5 itself counts as heard; of the second clip nothing does
    assert SEVERAL_LABELS.active(heard.probabilities).tolist() == [[True, False, True], [False, False, False]]
    assert heard.answer(torch.tensor([2, 2])).tolist() == [2, NO_CLASS]
    assert heard.answer(torch.tensor([1, 0])).tolist() == [NO_CLASS, NO_CLASS]


def test_a_class_is_independent_of_the_others_under_several_labels_alone():
    louder_rival = LOGITS.clone()
    louder_rival[:, 1] += 5
    target = torch.tensor([0, 0])
    for ask in (Evidence.surprise, Evidence.about):
        assert torch.equal(ask(evidence(), target), ask(evidence(louder_rival), target))
        assert not torch.equal(ask(evidence(labels=ONE_LABEL), target), ask(evidence(louder_rival, ONE_LABEL), target))


def test_a_question_about_one_of_several_labels_is_one_of_two_classes():
    target = torch.tensor([0, 2])
    asked = LOGITS.gather(1, target[:, None])[:, 0]
    two_classes = torch.stack([asked, torch.zeros(2)], dim=1)
    about = evidence().about(target)
    assert torch.allclose(about, two_classes.softmax(dim=1))
    assert torch.allclose(about.sum(dim=1), torch.ones(2))
    expected = F.cross_entropy(two_classes, torch.zeros(2, dtype=torch.long), reduction="none")
    assert torch.allclose(evidence().surprise(target), expected)
    assert torch.allclose(
        evidence().surprise(target), F.binary_cross_entropy(about[:, 0], torch.ones(2), reduction="none")
    )
    assert SEVERAL_LABELS.log_odds(LOGITS, target).tolist() == asked.tolist()
    probability = LOGITS.softmax(dim=1).gather(1, target[:, None])[:, 0]
    assert torch.allclose(ONE_LABEL.log_odds(LOGITS, target), probability.logit())


def test_surprise_stays_finite_where_a_sigmoid_is_0():
    sure = torch.tensor([[-200.0, 0.0]], requires_grad=True)
    surprise = SEVERAL_LABELS.surprise(sure, torch.tensor([0]))
    assert surprise.item() == pytest.approx(200)
    surprise.sum().backward()
    assert sure.grad.tolist() == [[-1, 0]]


def test_the_loss_is_torchs():
    generator = torch.Generator().manual_seed(0)
    logits, truth = torch.randn(5, 7, generator=generator), torch.rand(5, 7, generator=generator)
    of_several = SEVERAL_LABELS.cross_entropy(logits, truth)
    assert of_several.shape == (5,)
    assert of_several.mean().item() == pytest.approx(F.binary_cross_entropy_with_logits(logits, truth).item())
    one = F.one_hot(torch.arange(5), 7).float()
    assert ONE_LABEL.cross_entropy(logits, one).mean().item() == pytest.approx(
        F.cross_entropy(logits, torch.arange(5)).item()
    )
    # by hand: z = 0 costs ln 2 whatever is right
    assert SEVERAL_LABELS.cross_entropy(torch.zeros(1, 4), torch.tensor([[1.0, 0, 0, 1]])).item() == pytest.approx(
        math.log(2)
    )


def test_map_by_hand():
    # class 0: order of clips 0, 2, 1, 3; right are 0 and 1: precisions 1/1 and 2/3. class 1: right is the last of four
    probabilities = torch.tensor([[0.9, 0.4], [0.3, 0.3], [0.6, 0.2], [0.1, 0.1]])
    truth = torch.tensor([[1, 0], [1, 0], [0, 0], [0, 1]]).bool()
    assert mean_average_precision(probabilities, truth) == pytest.approx(((1 + 2 / 3) / 2 + 1 / 4) / 2)
    # class 0: of the pairs (0, 2), (0, 3), (1, 2), (1, 3) three are in order; class 1: none of three
    assert macro_auc(probabilities, truth) == pytest.approx((3 / 4 + 0) / 2)
    # heard from 0.5 on: class 0 in clips 0 and 2, one of them right, one missed; class 1 never
    assert macro_f1(probabilities >= 0.5, truth) == pytest.approx((2 / 4 + 0) / 2)
    scores = SEVERAL_LABELS.scores(probabilities, truth)
    assert list(scores) == ["map", "macro_auc", "macro_f1"]
    assert SEVERAL_LABELS.quality == "map"
    assert scores["map"] == mean_average_precision(probabilities, truth)


def test_clips_of_one_probability_are_taken_at_once():
    constant = torch.full((4, 1), 0.3)
    truth = torch.tensor([[True], [False], [False], [False]])
    assert mean_average_precision(constant, truth) == pytest.approx(1 / 4)
    assert mean_average_precision(constant, truth.flip(0)) == pytest.approx(1 / 4)
    assert macro_auc(constant, truth) == pytest.approx(1 / 2)


def test_scores_agree_with_scikit_learn():
    generator = torch.Generator().manual_seed(1)
    probabilities = torch.rand(60, 5, generator=generator).mul(20).round() / 20  # many ties
    truth = torch.rand(60, 5, generator=generator) < 0.3
    assert mean_average_precision(probabilities, truth) == pytest.approx(
        average_precision_score(truth, probabilities, average="macro")
    )
    assert macro_auc(probabilities, truth) == pytest.approx(roc_auc_score(truth, probabilities, average="macro"))
    assert macro_f1(probabilities >= 0.5, truth) == pytest.approx(
        f1_score(truth, probabilities >= 0.5, average="macro")
    )


def test_the_order_of_clips_and_classes_changes_no_score():
    generator = torch.Generator().manual_seed(2)
    probabilities, truth = torch.rand(20, 4, generator=generator), torch.rand(20, 4, generator=generator) < 0.4
    clips, classes = torch.randperm(20, generator=generator), torch.randperm(4, generator=generator)
    moved = SEVERAL_LABELS.scores(probabilities[clips][:, classes], truth[clips][:, classes])
    assert moved == pytest.approx(SEVERAL_LABELS.scores(probabilities, truth))


def test_a_class_that_no_clip_has_is_left_out():
    probabilities, truth = torch.tensor([[0.9, 0.5], [0.1, 0.6]]), torch.tensor([[True, False], [False, False]])
    assert SEVERAL_LABELS.scores(probabilities, truth) == {"map": 1, "macro_auc": 1, "macro_f1": 1}
    nothing = torch.zeros(2, 2, dtype=torch.bool)
    assert all(map(math.isnan, SEVERAL_LABELS.scores(probabilities, nothing).values()))


def test_truth_of_another_shape_is_refused():
    with pytest.raises(ValueError, match="truth must be bool"):
        mean_average_precision(torch.rand(3, 2), torch.zeros(3, dtype=torch.long))


def test_accuracy_is_the_share_of_clips_with_their_class():
    truth = F.one_hot(torch.tensor([0, 1]), 3).bool()
    assert ONE_LABEL.scores(LOGITS.softmax(dim=1), truth) == {"acc": 0.5}


def test_evidence_of_some_clips_keeps_its_meaning():
    plane = torch.arange(3.0)[:, None, None, None]
    features = Features(torch.eye(3), (plane,), plane, earlier_maps=(plane + 10,))
    some = Evidence(torch.eye(3), features, SEVERAL_LABELS)[torch.tensor([2, 0, 2])]
    assert some.labels == SEVERAL_LABELS
    assert torch.equal(some.logits, torch.eye(3)[[2, 0, 2]])
    assert torch.equal(some.features.embedding, torch.eye(3)[[2, 0, 2]])
    assert some.features.maps[0].flatten().tolist() == some.features.native_map.flatten().tolist() == [2, 0, 2]
    assert some.features.earlier_maps[0].flatten().tolist() == [12, 10, 12]
    together = Evidence.joined([some[:1], some[1:]]).features
    assert together.earlier_maps[0].flatten().tolist() == [12, 10, 12] and len(together.tensors) == 4
    assert Evidence(LOGITS, Features(LOGITS))[:1].features.native_map is None


def test_a_classifier_says_what_its_logits_mean():
    class Mean(torch.nn.Module):
        embedding_size = 2

        def forward(self, image):
            return Features(image.mean(dim=(1, 2))[:, None].expand(-1, 2))

    class Magnitude(torch.nn.Module):
        def forward(self, spectrogram):
            return spectrogram.log_magnitude

    parts = (FrontEnd(), Magnitude(), Mean(), lambda size: torch.nn.Linear(size, 3))
    several = AudioClassifier(*parts, labels="several")
    assert several.describe().labels == SEVERAL_LABELS
    assert AudioClassifier(*parts).describe().labels == ONE_LABEL
    sound = several.frontend.analyze(torch.randn(2, 8000))
    assert torch.equal(several(sound).probabilities, several(sound).logits.sigmoid())
    with pytest.raises(UsageError, match="labels='many' must be one of one, several"):
        AudioClassifier(*parts, labels="many")
    assert labels_of("several") == SEVERAL_LABELS
