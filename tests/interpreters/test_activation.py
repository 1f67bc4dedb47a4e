"""Class activations, held against what is known by hand and against Grad-CAM."""

import pytest
import torch
from torch import nn

from interpreters.activation import class_activations
from models.classifier import Evidence, Features
from models.errors import UsageError
from models.frontend import FrontEnd


class Linear(nn.Module):
    """One map of two channels, the magnitude and its half; logits: 3 and -2 times the channels' sums."""

    def __init__(self, detached: bool = False):
        super().__init__()
        self.frontend, self.detached = FrontEnd(), detached

    def forward(self, spectrogram):
        plane = spectrogram.log_magnitude.unsqueeze(1)
        features = torch.cat([plane, plane / 2], dim=1)
        seen = features.detach() if self.detached else features
        sums = features.sum(dim=(2, 3))
        logits = torch.stack([3 * sums[:, 0], -2 * sums[:, 1]], dim=1)
        return Evidence(logits, Features(sums, maps=(seen,)))


@pytest.fixture
def clips():
    return FrontEnd().analyze(torch.rand(2, 4000))


def asked(*classes: int):
    return lambda logits: torch.tensor(classes)


def test_a_linear_network_by_hand(clips):
    target, (activation,) = class_activations(Linear(), clips, asked(0, 1))
    assert target.tolist() == [0, 1]
    plane = clips.log_magnitude
    torch.testing.assert_close(activation.cam[0, 0], 3 * plane[0])
    torch.testing.assert_close(activation.cam[1, 0], -2 * plane[1] / 2)
    # the channel that the class does not hear is 0, the other one has the mean square of both
    first, second = activation.product[0]
    assert second.abs().max() == 0
    torch.testing.assert_close(activation.product.square().mean(dim=(1, 2, 3)), torch.ones(2))
    torch.testing.assert_close(first / first.max(), plane[0] / plane[0].max())


def test_the_classes_are_chosen_from_the_logits(clips):
    target, _ = class_activations(Linear(), clips, lambda logits: logits.argmin(dim=1))
    assert target.tolist() == [1, 1]


def test_a_map_that_leads_nowhere_is_refused(clips):
    with pytest.raises(UsageError, match="map 0 of this classifier is a detached"):
        class_activations(Linear(detached=True), clips, asked(0, 0))


@pytest.mark.parametrize("name", ["cnn14", "focalnet", "vit"])
def test_every_classifier_has_activations_without_a_graph(name, request):
    classifier = request.getfixturevalue(name).freeze()
    spectrogram = classifier.frontend.analyze(torch.rand(2, 16000) - 0.5)
    with torch.no_grad():
        maps = classifier(spectrogram).features.maps
        _, activations = class_activations(classifier, spectrogram, asked(0, 3))
    for features, activation in zip(maps, activations, strict=True):
        torch.testing.assert_close(activation.features, features)
        assert activation.gradient.shape == features.shape
        assert not activation.gradient.requires_grad
    assert any(activation.gradient.abs().max() > 0 for activation in activations)
