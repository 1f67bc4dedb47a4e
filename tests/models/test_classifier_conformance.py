"""The conformance check for classifiers: sound ones pass, and each thing that lacks is a sentence."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from models.adapters import ImageAdapter
from models.conformance import check_classifier
from models.labels import SEVERAL_LABELS
from tests.helpers import Conforming


def test_our_networks_conform(classifier):
    assert check_classifier(classifier) == []
    assert not classifier.training and not any(one.requires_grad for one in classifier.parameters())


@pytest.mark.parametrize("name", ["focalnet", "vit"])
def test_a_network_on_learned_channels_conforms(name, request):
    classifier = request.getfixturevalue(name)
    size = classifier.adapter.size
    classifier.adapter = ImageAdapter(size, projection=4)
    for parameter in classifier.adapter.parameters():
        nn.init.normal_(parameter, std=0.1)
    assert check_classifier(classifier) == []


def broken_forward(change):
    """Conforming, with a fault in its answer: change(spectrogram, evidence) -> evidence."""

    class Broken(Conforming):
        def forward(self, spectrogram):
            return change(spectrogram, super().forward(spectrogram))

    return Broken()


def broken_features(**changes):
    """Conforming, with other features: each change is a function of the true ones."""
    return broken_forward(
        lambda _, evidence: replace(
            evidence,
            features=replace(
                evidence.features, **{name: change(evidence.features) for name, change in changes.items()}
            ),
        )
    )


def broken_method(name, method):
    """Conforming, with another method."""
    return type("Broken", (Conforming,), {name: method})()


def describing(**changes):
    return broken_method("describe", lambda self: replace(Conforming.describe(self), **changes))


def only_one_second(spectrogram, evidence):
    if spectrogram.num_samples != 8000:
        raise RuntimeError("8000 samples or nothing")
    return evidence


def normalised_by_peak(spectrogram, evidence):
    peak = spectrogram.log_magnitude.amax(dim=(1, 2), keepdim=True)
    return replace(evidence, logits=evidence.logits + (spectrogram.log_magnitude / peak).mean(dim=(1, 2))[:, None])


def detached(spectrogram, evidence):
    return replace(evidence, logits=evidence.logits.detach())


def constant(spectrogram, evidence):
    return replace(evidence, logits=evidence.logits * 0)


def with_batch_statistics(spectrogram, evidence):
    return replace(evidence, logits=evidence.logits - evidence.logits.mean(dim=0))


class Restless(Conforming):
    """One that draws noise at every call, in evaluation too."""

    def forward(self, spectrogram):
        evidence = super().forward(spectrogram)
        return replace(evidence, logits=evidence.logits + torch.rand(1, 3))


class Counting(Conforming):
    """One that counts its calls in a buffer."""

    def __init__(self):
        super().__init__()
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, spectrogram):
        if not self.training:
            self.calls += 1
        return super().forward(spectrogram)


def with_several_labels(spectrogram, evidence):
    return replace(evidence, labels=SEVERAL_LABELS)


def describe_in_eval(self):
    self.eval()
    return Conforming.describe(self)


def freeze_but_one(self):
    self.eval().requires_grad_(False)
    self.head.bias.requires_grad_(True)
    return self


def freeze_in_training(self):
    return self.requires_grad_(False)


def freeze_without_answer(self):
    self.eval().requires_grad_(False)


def test_the_smallest_classifier_conforms():
    assert check_classifier(Conforming()) == []
    assert check_classifier(broken_features(maps=lambda one: (one.maps[0], one.maps[0]))) == []


BROKEN = {
    "no module": (lambda: print, "It is of type builtin_function_or_method, not a torch.nn.Module."),
    "no front end": (lambda: nn.Linear(2, 2), "It has no `frontend` that is a models.frontend.FrontEnd."),
    "returns logits": (
        lambda: broken_forward(lambda _, evidence: evidence.logits),
        "It returns Tensor, not models.classifier.Evidence.",
    ),
    "logits of one axis": (
        lambda: broken_forward(lambda _, evidence: replace(evidence, logits=evidence.logits.unsqueeze(1))),
        "Its logits are [3, 1, 3] for 3 clips, not [B, K].",
    ),
    "embedding of tokens": (
        lambda: broken_features(embedding=lambda one: one.embedding.unsqueeze(1)),
        "Its embedding is [3, 1, 4] for 3 clips, not [B, D].",
    ),
    "maps without channels": (
        lambda: broken_features(maps=lambda one: (one.maps[0], one.maps[1].mean(dim=1))),
        "One of its maps is [3, 4, 2] for 3 clips, not [B, C, h, w].",
    ),
    "maps coarse to fine": (
        lambda: broken_features(maps=lambda one: one.maps[::-1]),
        "Its maps do not go from fine to coarse: [(4, 2), (8, 4)].",
    ),
    "native map of channels": (
        lambda: broken_features(native_map=lambda one: one.maps[0]),
        "Its native map is [3, 4, 8, 4] for 3 clips, not [B, 1, h, w].",
    ),
    "negative native map": (
        lambda: broken_features(native_map=lambda one: one.native_map - 10),
        "Its native map has negative values.",
    ),
    "negative earlier map": (
        lambda: broken_features(earlier_maps=lambda one: (one.native_map - 10,)),
        "Its earlier map 0 has negative values.",
    ),
    "earlier maps of nothing": (
        lambda: broken_features(earlier_maps=lambda one: (one.native_map,), native_map=lambda one: None),
        "It has earlier maps, and no native map that they come before.",
    ),
    "one clip length": (
        lambda: broken_forward(only_one_second),
        "It raises RuntimeError on 3 clips of 1.37 s: 8000 samples or nothing",
    ),
    "silence": (lambda: broken_forward(normalised_by_peak), "Its logits are not finite on silence."),
    "batch": (
        lambda: broken_forward(with_batch_statistics),
        "Its logits of a clip of 1.0 s depend on the rest of the batch.",
    ),
    "another answer each time": (Restless, "Its logits for the same clips differ from one call to the next."),
    "another state each time": (Counting, "It changes its parameters or buffers when it answers."),
    "other labels": (
        lambda: broken_forward(with_several_labels),
        "`describe()` says its labels are 'one', and its evidence says 'several'.",
    ),
    "describes nothing": (
        lambda: broken_method("describe", lambda self: None),
        "`describe()` returns NoneType, not models.classifier.ClassifierInfo.",
    ),
    "no gradient": (
        lambda: broken_forward(detached),
        "No gradient reaches the spectrogram's log_magnitude.",
    ),
    "zero gradient": (
        lambda: broken_forward(constant),
        "The gradient with respect to log_magnitude is zero everywhere.",
    ),
    "no freeze": (lambda: broken_method("freeze", None), "It has no method `freeze`."),
    "half frozen": (
        lambda: broken_method("freeze", freeze_but_one),
        "`freeze()` leaves 1 parameters with a gradient, such as head.bias.",
    ),
    "frozen in training": (
        lambda: broken_method("freeze", freeze_in_training),
        "`freeze()` leaves a module in training mode.",
    ),
    "freeze returns none": (
        lambda: broken_method("freeze", freeze_without_answer),
        "`freeze()` does not return the classifier itself.",
    ),
    "no describe": (lambda: broken_method("describe", None), "It has no method `describe`."),
    "describes another": (
        lambda: describing(num_classes=4),
        "`describe()` says num_classes is 4, and it is 3.",
    ),
    "promises a native map": (
        lambda: broken_features(native_map=lambda one: None),
        "`describe()` says provides is ['gradient', 'maps', 'native_map'], and it is ['gradient', 'maps'].",
    ),
    "other channels": (
        lambda: describing(map_channels=(4, 8)),
        "`describe()` says map_channels is (4, 8), and it is (4, 4).",
    ),
    "no scale": (
        lambda: describing(logit_scale=0),
        "`describe()` says logit_scale is 0, and it must be positive.",
    ),
    "describe evaluates": (
        lambda: broken_method("describe", describe_in_eval),
        "`describe()` changes its mode.",
    ),
}


MORE = {
    "maps without channels": ["`describe()` says map_channels is (4, 4), and it is (4,)."],
    "one clip length": ["It raises RuntimeError on 3 clips of 5 s: 8000 samples or nothing"],
    "silence": ["The gradient with respect to log_magnitude is not finite."],
    "another answer each time": [
        "Its logits of a clip of 1.0 s depend on the rest of the batch.",
        "Its logits of a clip of 1.37 s depend on the rest of the batch.",
        "Its logits of a clip of 5.0 s depend on the rest of the batch.",
    ],
    "negative earlier map": ["`describe()` says earlier_maps is 0, and it is 1."],
    "earlier maps of nothing": [
        "`describe()` says earlier_maps is 0, and it is 1.",
        "`describe()` says provides is ['gradient', 'maps', 'native_map'], and it is ['gradient', 'maps'].",
    ],
    "batch": [
        "Its logits of a clip of 1.37 s depend on the rest of the batch.",
        "Its logits of a clip of 5.0 s depend on the rest of the batch.",
    ],
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_fault_is_told_in_a_sentence(name):
    build, sentence = BROKEN[name]
    assert sorted(check_classifier(build())) == sorted([sentence, *MORE.get(name, [])])
