"""The amortised mask: where it starts, that it learns a known region, and that it answers for the class asked about."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from interpreters.activation import Activation
from interpreters.amortized import AmortizedMask, Finish, MaskTask, NetworkShape
from interpreters.amortized_network import MaskNetwork, loudness_gate
from interpreters.fixed_area import top_share
from interpreters.mask_grid import MaskGrid
from models.classifier import ClassifierInfo, Evidence, Features
from models.errors import UsageError
from models.frontend import FrontEnd, Spectrogram

INFO = ClassifierInfo(2, 16000, 1024, (2,), frozenset({"maps", "gradient"}))
HALF = 256  # of 513 bins


class Halves(nn.Module):
    """Class 0 is sound below 4 kHz, class 1 sound above; its map is the plane, one channel for each half."""

    def __init__(self):
        super().__init__()
        self.frontend = FrontEnd()

    def forward(self, spectrogram):
        low = spectrogram.log_magnitude.clone()
        high = spectrogram.log_magnitude.clone()
        low[..., HALF:], high[..., :HALF] = 0, 0
        features = torch.stack([low, high], dim=1)
        logits = 8 * features.mean(dim=(2, 3))
        return Evidence(logits, Features(logits, maps=(features,)))


def clips(count: int = 4) -> Spectrogram:
    """Noise, louder below 4 kHz in clips of even number, else above."""
    spectrogram = FrontEnd().analyze(torch.rand(count, 8000) * 2 - 1)
    level = torch.full_like(spectrogram.log_magnitude, 0.6)
    level[::2, :, :HALF], level[1::2, :, HALF:] = 1, 1
    return spectrogram.masked(level)


def inside(mask: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """[B] share of what is kept that lies in the half of the class."""
    low = mask[..., :HALF].sum(dim=(1, 2)) / mask.sum(dim=(1, 2))
    return torch.where(target == 0, low, 1 - low)


@pytest.mark.parametrize("gated", [False, True])
def test_before_training_the_map_is_of_the_class_and_of_what_is_loud(gated):
    torch.manual_seed(0)
    interpreter, classifier, sound = AmortizedMask(INFO, network=NetworkShape(gated=gated)), Halves(), clips()
    evidence = classifier(sound)
    for target in (evidence.prediction, 1 - evidence.prediction):
        importance = interpreter.importance(classifier, sound, evidence, target)
        assert importance.shape == sound.log_magnitude.shape
        assert (inside(top_share(importance, 0.2), target) > 0.9).all()


def test_the_gate_is_the_level_over_its_root_mean_square():
    plane = torch.tensor([[[[0.0, 3.0], [4.0, 0.0]]]])  # root mean square 2.5
    torch.testing.assert_close(loudness_gate(plane), torch.tensor([[[[0.0, 1.2], [1.6, 0.0]]]]))
    assert torch.equal(loudness_gate(torch.zeros(1, 1, 2, 2)), torch.zeros(1, 1, 2, 2))


def start_of(gated: bool, cam: torch.Tensor, log_magnitude: torch.Tensor) -> torch.Tensor:
    """[4, 16] an untrained network's logits on as many cells, for one clip whose only map has that Grad-CAM."""
    maps = cam.expand(1, 2, -1, -1)
    network = MaskNetwork(replace(INFO, mel_top=8000.0), MaskGrid(513, 16000, 8, 16), gated)
    activation = Activation(maps, torch.zeros_like(maps), cam[None, None])
    return network(log_magnitude[None], (activation,), torch.tensor([0.2]))[0].detach()


def test_loudness_is_added_to_the_class_activation_or_weighs_it():
    """Sound in the first half of the clip, the class's activation in the upper half of the map."""
    log_magnitude = torch.zeros(32, 513)
    log_magnitude[:16] = 1
    cam = torch.zeros(4, 16)
    cam[:, 8:] = 1
    # standardised, both are -1 and 1; the gate is 0 and the square root of 2
    sounding, silent, of_class, other = slice(0, 2), slice(2, 4), slice(8, 16), slice(0, 8)
    gated, added = start_of(True, cam, log_magnitude), start_of(False, cam, log_magnitude)
    heard = MaskGrid(513, 16000, 8, 16).pool(log_magnitude[None])[0]
    assert set(heard.unique().tolist()) == {0.0, 1.0}, "every band holds a bin"
    for rows, columns, product, total in (
        (sounding, of_class, 2 * 2**0.5, 3.5),
        (sounding, other, -2 * 2**0.5, -0.5),
        (silent, of_class, 0.0, 0.5),
        (silent, other, 0.0, -3.5),
    ):
        inner = gated[rows, columns]
        torch.testing.assert_close(inner, torch.full_like(inner, product), rtol=0, atol=1e-4)
        outer = added[rows, columns]
        torch.testing.assert_close(outer, torch.full_like(outer, total), rtol=0, atol=1e-4)


def test_with_a_gate_loudness_says_nothing_where_the_classifier_says_nothing():
    log_magnitude = torch.rand(32, 513)
    constant = torch.ones(4, 16)
    assert torch.equal(start_of(True, constant, log_magnitude), torch.zeros(4, 16))
    assert start_of(False, constant, log_magnitude).std() > 1


def test_a_bundle_that_knows_no_gate_has_its_shapes():
    """Two maps: level, area and two Grad-CAMs came in, and the start had two weights."""
    two_maps = replace(INFO, map_channels=(2, 2))
    shapes = {name: tuple(value.shape) for name, value in AmortizedMask(two_maps).state_dict().items()}
    assert shapes["network.first.0.weight"] == (24, 4, 3, 3) and shapes["network.prior"] == (2,)
    shapes = {
        name: tuple(value.shape)
        for name, value in AmortizedMask(two_maps, network=NetworkShape(gated=True)).state_dict().items()
    }
    assert shapes["network.first.0.weight"] == (24, 5, 3, 3) and shapes["network.prior"] == (1,)


def test_the_mask_has_the_area_asked_for():
    classifier, sound = Halves(), clips(2)
    found = AmortizedMask(INFO, quantile=[0.8, 0.95]).sweep(classifier, sound, classifier(sound))
    for interpretation, area in zip(found, (0.2, 0.05), strict=True):
        # a cell is up to 4 frames by 23 bins, of 44 by 513
        assert interpretation.mask.mean(dim=(1, 2)).tolist() == pytest.approx([area, area], abs=0.01)


@pytest.mark.parametrize("gated", [False, True])
def test_training_finds_a_region_that_it_does_not_start_from(gated):
    """It starts from the opposite of the class activation, as a network would that was taught wrongly."""
    torch.manual_seed(0)
    task, shape = MaskTask(mixed=0.0, infill=0.0), NetworkShape(frames_per_cell=8, bands=16, gated=gated)
    interpreter = AmortizedMask(INFO, task=task, network=shape)
    with torch.no_grad():
        interpreter.network.prior.zero_()
        interpreter.network.prior[0] = -1
    interpreter.network.prior.requires_grad_(False)
    classifier, sound = Halves(), clips(8)
    target = classifier(sound).prediction

    def found() -> float:
        importance = interpreter.importance(classifier, sound, classifier(sound))
        return inside(top_share(importance, 0.2), target).mean().item()

    before = found()
    optimizer = torch.optim.Adam(interpreter.network.parameters(), lr=1e-2)
    losses = []
    for _ in range(40):
        terms = interpreter.loss(classifier, sound, classifier(sound))
        loss = sum(terms.values()).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert before < 0.3
    assert found() > 0.9
    assert sum(losses[-5:]) < sum(losses[:5])
    assert interpreter.steps == 40


def test_the_terms_are_per_clip_and_each_clip_has_one_of_them():
    interpreter, classifier, sound = AmortizedMask(INFO), Halves(), clips(6)
    terms = interpreter.loss(classifier, sound, classifier(sound))
    assert set(terms) == {"kept", "removed"}
    assert all(term.shape == (6,) for term in terms.values())
    assert ((terms["kept"] > 0) != (terms["removed"] > 0)).all()


def test_validation_draws_alike_every_time_and_counts_no_step():
    interpreter, classifier, sound = AmortizedMask(INFO).eval(), Halves(), clips(4)
    first, second = (interpreter.loss(classifier, sound, classifier(sound)) for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert interpreter.steps == 0


@pytest.mark.parametrize("gated", [False, True])
def test_gradients_are_finite_on_silence(gated):
    task, shape = MaskTask(infill=1.0, infill_steps=0), NetworkShape(gated=gated)
    interpreter, classifier = AmortizedMask(INFO, task=task, network=shape), Halves()
    silent = FrontEnd().analyze(torch.zeros(4, 8000))
    sum(interpreter.loss(classifier, silent, classifier(silent)).values()).mean().backward()
    for parameter in interpreter.parameters():
        assert parameter.grad is None or parameter.grad.isfinite().all()


@pytest.mark.parametrize("name", ["cnn14", "focalnet", "vit"])
def test_every_classifier_with_maps_is_explained_and_trained_for(name, request):
    classifier = request.getfixturevalue(name).freeze()
    interpreter = AmortizedMask(classifier.describe(), network=NetworkShape(gated=True))
    sound = classifier.frontend.analyze(torch.rand(2, 16000) - 0.5)
    with torch.no_grad():
        evidence = classifier(sound)
        found = interpreter.interpret(classifier, sound, evidence)
    assert found.mask.mean() == pytest.approx(0.2, abs=0.01)
    sum(interpreter.loss(classifier, sound, evidence).values()).mean().backward()
    # the last layer starts at zero, so that it alone and the starting point's weights are moved at first
    assert interpreter.network.last.weight.grad.abs().max() > 0


@pytest.mark.parametrize(
    "group, changes, message",
    [
        (MaskTask, {"areas": [0.4, 0.1]}, "areas="),
        (MaskTask, {"areas": 0.3}, "areas=0.3 must be a list of numbers"),
        (MaskTask, {"temperature": 0.0}, "temperature=0.0"),
        (MaskTask, {"removed": -1.0}, "removed=-1.0"),
        (MaskTask, {"infill": 1.5}, "infill=1.5"),
        (MaskTask, {"infill_steps": 0.5}, "infill_steps=0.5 must be a whole number"),
        (Finish, {"finish_steps": -1}, "finish_steps=-1 must be 0"),
        (Finish, {"chunk": 0}, "chunk=0 1 or more"),
        (Finish, {"hold": -1.0}, "hold=-1.0 must be 0"),
        (NetworkShape, {"gated": 3}, "gated=3 must be true or false"),
        (NetworkShape, {"bands": None}, "bands=None must be a whole number"),
    ],
)
def test_settings_out_of_range_are_refused(group, changes, message):
    with pytest.raises(UsageError, match=message):
        group(**changes)


@pytest.mark.parametrize("area", [0.0, 1.0])
def test_an_area_that_is_no_share_is_refused(area):
    with pytest.raises(UsageError, match=f"area={area} must lie"):
        AmortizedMask(INFO, area=area)


def test_a_grid_of_no_bands_is_refused():
    with pytest.raises(UsageError, match="bands=0 must be 1 or more"):
        AmortizedMask(INFO, network=NetworkShape(bands=0))


def test_a_classifier_without_maps_is_refused():
    with pytest.raises(UsageError, match="needs gradient, maps"):
        AmortizedMask(replace(INFO, provides=frozenset({"gradient"})))
