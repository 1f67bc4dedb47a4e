"""The classifier contract: evidence, the cosine head, describe and freeze, and the check for classifiers of others."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from models.adapters import ImageAdapter
from models.classifier import AudioClassifier, ClassifierInfo, CosineHead, Evidence, Features
from models.frontend import FrontEnd
from tests.conformance import check_classifier


def test_probabilities_are_the_softmax_in_float32():
    logits = torch.tensor([[0.0, 0.0], [0.0, 3.0]]).log1p()  # odds 1 : 1 and 1 : 4
    evidence = Evidence(logits, Features(logits))
    torch.testing.assert_close(evidence.probabilities, torch.tensor([[0.5, 0.5], [0.2, 0.8]]))
    assert evidence.prediction.tolist() == [0, 1]
    rough = Evidence(logits.bfloat16(), Features(logits))
    assert rough.probabilities.dtype == torch.float32
    torch.testing.assert_close(rough.probabilities.sum(dim=1), torch.ones(2))


def test_the_head_answers_scaled_cosines():
    head = CosineHead(2, num_classes=3, scale=30.0)
    head.classifier.weight.data = torch.tensor([[5.0, 0.0], [0.0, 0.1], [-3.0, 0.0]])
    logits = head(torch.tensor([[2.0, 0.0], [0.3, 0.4]]))
    torch.testing.assert_close(logits, 30 * torch.tensor([[1.0, 0.0, -1.0], [0.6, 0.8, -0.6]]))


def test_a_head_with_a_block_is_normalisation_a_layer_and_cosines():
    head = CosineHead(4, num_classes=3, num_blocks=1, scale=2.0).eval()
    embedding = torch.randn(5, 4)
    norm, linear = head.classifier.blocks
    hidden = F.linear(embedding / (1 + norm.norm.eps) ** 0.5, linear.w.weight, linear.w.bias)
    expected = 2 * F.cosine_similarity(hidden.unsqueeze(1), head.classifier.weight.unsqueeze(0), dim=2)
    assert hidden.shape == (5, 192)
    torch.testing.assert_close(head(embedding), expected)


def test_the_three_networks_describe_themselves(focalnet, vit, cnn14):
    common = {"num_classes": 5, "sample_rate": 16000, "n_fft": 1024, "logit_scale": 30.0, "provenance": "from scratch"}
    everything, maps = frozenset({"gradient", "maps", "native_map"}), frozenset({"gradient", "maps"})
    modulation, attention = common | {"map_name": "modulation"}, common | {"map_name": "attention"}
    assert focalnet.describe() == ClassifierInfo(map_channels=(48, 96, 192, 192), provides=everything, **modulation)
    assert vit.describe() == ClassifierInfo(map_channels=(48,) * 4, provides=everything, **attention)
    assert cnn14.describe() == ClassifierInfo(map_channels=(16, 32, 64, 128), provides=maps, mel_top=8000.0, **common)


def test_an_ordinary_head_has_logit_scale_1(focalnet):
    plain = AudioClassifier(focalnet.frontend, focalnet.adapter, focalnet.backbone, lambda size: nn.Linear(size, 7))
    assert plain.describe().logit_scale == 1.0 and plain.describe().num_classes == 7


def test_describe_restores_every_module_s_own_mode(cnn14):
    cnn14.backbone.eval()
    modes = [module.training for module in cnn14.modules()]
    assert set(modes) == {True, False}
    cnn14.describe()
    assert [module.training for module in cnn14.modules()] == modes
    cnn14.frontend.analyze = lambda waveform: 1 / 0
    with pytest.raises(ZeroDivisionError):
        cnn14.describe()
    assert [module.training for module in cnn14.modules()] == modes


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


class Conforming(nn.Module):
    """The smallest classifier that may stand in: two maps, a native map, three classes; no AudioClassifier."""

    def __init__(self):
        super().__init__()
        self.frontend = FrontEnd(8000, 256, 32, 16)
        self.conv, self.head = nn.Conv2d(1, 4, 3, padding=1), nn.Linear(4, 3)

    def forward(self, spectrogram):
        fine = self.conv(F.adaptive_avg_pool2d(spectrogram.log_magnitude.unsqueeze(1), (8, 4))).relu()
        coarse = F.avg_pool2d(fine, 2)
        embedding = coarse.mean(dim=(2, 3))
        features = Features(embedding, (fine, coarse), coarse.mean(dim=1, keepdim=True))
        return Evidence(self.head(embedding), features)

    def freeze(self):
        return self.eval().requires_grad_(False)

    def describe(self):
        return ClassifierInfo(3, 8000, 256, (4, 4), frozenset({"gradient", "maps", "native_map"}))


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
    "one clip length": (
        lambda: broken_forward(only_one_second),
        "It raises RuntimeError on 3 clips of 1.37 s: 8000 samples or nothing",
    ),
    "silence": (lambda: broken_forward(normalised_by_peak), "Its logits are not finite on silence."),
    "batch": (
        lambda: broken_forward(with_batch_statistics),
        "Its logits of a clip of 1.0 s depend on the rest of the batch.",
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
    "batch": [
        "Its logits of a clip of 1.37 s depend on the rest of the batch.",
        "Its logits of a clip of 5.0 s depend on the rest of the batch.",
    ],
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_fault_is_told_in_a_sentence(name):
    build, sentence = BROKEN[name]
    assert sorted(check_classifier(build())) == sorted([sentence, *MORE.get(name, [])])
