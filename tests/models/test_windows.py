"""Clips longer than a network takes: how they are cut, pooled and joined, and that interpreters explain all of them."""

from dataclasses import replace
from functools import partial

import pytest
import torch

from interpreters.activation import class_activations
from interpreters.conformance import check_interpreter
from interpreters.decoders import LightDecoder
from interpreters.gradients import Gradient
from interpreters.interpolation import resize_map
from interpreters.lmac import LMAC
from interpreters.maps import QuantileMap
from interpreters.perturbation import Perturbation
from models.classifier import Evidence, Features
from models.conformance import check_classifier
from models.errors import UsageError
from models.frontend import FrontEnd, Spectrogram
from models.labels import ONE_LABEL, SEVERAL_LABELS, Labels
from models.windows import POOLINGS, WindowedClassifier, Windows, _join
from tests.helpers import Conforming, refusal

HALF = {"seconds": 0.5, "hop_seconds": 0.2, "pooling": "mean_logit"}
FRONTEND = FrontEnd(sample_rate=1000, n_fft=20, window_ms=20, hop_ms=10)  # a hop of 10 samples


def noise(clips: int, seconds: float, rate: int = 16000) -> torch.Tensor:
    return 0.1 * torch.randn(clips, round(seconds * rate), generator=torch.Generator().manual_seed(1))


def pooled(pooling: str, *windows: list[float], labels: Labels = ONE_LABEL) -> list[float]:
    """The probabilities of a clip whose windows have these logits."""
    return labels.probabilities(Windows(1.0, pooling=pooling).pool(torch.tensor([windows]), labels))[0].tolist()


def columns(*rows: float) -> torch.Tensor:
    """The map [1, 1, h, 1] with these values along time."""
    return torch.tensor(rows).reshape(1, 1, -1, 1)


def join(plane: torch.Tensor, starts: list[int], length: int, frames: int) -> list[float]:
    return _join(plane, 1, starts, length, frames).flatten().tolist()


@pytest.mark.parametrize(
    ("settings", "frames", "starts"),
    [
        ({"seconds": 0.1}, 11, [0]),
        ({"seconds": 0.1}, 21, [0, 10]),
        ({"seconds": 0.1}, 27, [0, 10, 16]),  # the last window ends with the clip
        ({"seconds": 0.1, "hop_seconds": 0.05}, 27, [0, 5, 10, 15, 16]),
        ({"seconds": 0.1, "hop_seconds": 0.001}, 13, [0, 1, 2]),  # no less than a frame
    ],
)
def test_where_windows_begin(settings, frames, starts):
    assert Windows(**settings).starts(frames, 11, FRONTEND) == starts


def test_pooled_answers_by_hand():
    odds = (torch.tensor([1.0, 3.0]).log().tolist(), torch.tensor([3.0, 2.0]).log().tolist())
    assert pooled("mean_probability", *odds) == pytest.approx([(1 / 4 + 3 / 5) / 2, (3 / 4 + 2 / 5) / 2])
    assert pooled("max_probability", *odds) == pytest.approx([0.6 / 1.35, 0.75 / 1.35])
    assert pooled("mean_logit", *odds) == pytest.approx([3**0.5 / (3**0.5 + 6**0.5), 6**0.5 / (3**0.5 + 6**0.5)])
    assert pooled("max_logit", *odds) == pytest.approx([0.5, 0.5])


def test_pooled_answers_of_several_labels_by_hand():
    """Each class for itself: the probabilities of two windows are 1/2 and 1/4 of the one, 3/4 twice of the other."""
    windows = (torch.tensor([1.0, 3.0]).log().tolist(), torch.tensor([1 / 3, 3.0]).log().tolist())
    expected = {"mean_probability": 3 / 8, "max_probability": 1 / 2, "max_logit": 1 / 2}
    for pooling, probability in expected.items():
        assert pooled(pooling, *windows, labels=SEVERAL_LABELS) == pytest.approx([probability, 3 / 4])
    odds = 3**-0.5
    assert pooled("mean_logit", *windows, labels=SEVERAL_LABELS) == pytest.approx([odds / (1 + odds), 3 / 4])


@pytest.mark.parametrize("labels", [ONE_LABEL, SEVERAL_LABELS])
@pytest.mark.parametrize("pooling", POOLINGS)
def test_certain_windows_stay_finite(pooling, labels):
    logits = torch.tensor([[[900.0, -900.0], [-900.0, 900.0]]], requires_grad=True)
    answer = Windows(1.0, pooling=pooling).pool(logits, labels)
    answer.sum().backward()
    assert answer.isfinite().all() and logits.grad.isfinite().all()
    probability = 1.0 if labels is SEVERAL_LABELS and pooling.startswith("max") else 0.5
    assert labels.probabilities(answer)[0].tolist() == pytest.approx([probability] * 2)


def test_joined_maps_by_hand():
    two = torch.cat([columns(1.0, 2.0), columns(5.0, 8.0)])
    assert join(two, [0, 4], 4, 8) == [1, 2, 5, 8]
    # half of the second window lies on the first
    assert join(two, [0, 2], 4, 6) == [1, 3.5, 8]
    # rows of 2 frames at 0, 2 and at 1, 3: five frames make rows of 5/2 (rounded to two)
    assert join(two, [0, 1], 4, 5) == pytest.approx([(2 * 1 + 0.5 * 2 + 1.5 * 5) / 4, (1.5 * 2 + 0.5 * 5 + 2 * 8) / 4])


def test_a_constant_map_stays_constant_and_every_row_is_covered():
    for count, starts, length, frames in ((125, [0, 215, 430, 569], 431, 1000), (16, [0, 430, 437], 431, 868)):
        plane = torch.full((len(starts), 3, count, 2), 0.3)
        joined = _join(plane, 1, starts, length, frames)
        assert joined.shape == (1, 3, round(frames * count / length), 2)
        torch.testing.assert_close(joined, torch.full_like(joined, 0.3))


@pytest.mark.parametrize("pooling", POOLINGS)
def test_a_clip_of_one_window_has_the_plain_answer(pooling, classifier):
    classifier.freeze()
    spectrogram = classifier.frontend.analyze(noise(2, 1.0))
    plain = classifier(spectrogram)
    classifier.windows = Windows(1.0, 0.5, pooling)
    answer = classifier(spectrogram)
    assert torch.equal(answer.logits, plain.logits) and torch.equal(answer.features.embedding, plain.features.embedding)
    assert answer.features.windows is None
    assert all(map(torch.equal, answer.features.maps, plain.features.maps))


def windows_of(spectrogram: Spectrogram, starts: list[int]) -> list[Spectrogram]:
    """Windows of half a second at 16 kHz."""
    pieces = []
    for start in starts:
        inside = slice(start, start + 44)
        pieces.append(Spectrogram(spectrogram.log_magnitude[:, inside], spectrogram.phase[:, inside], 8000))
    return pieces


def test_a_long_clip_has_the_pooled_answers_of_its_windows(cnn14):
    cnn14.freeze()
    spectrogram = cnn14.frontend.analyze(noise(3, 1.3))
    pieces = windows_of(spectrogram, [0, 43, 68])
    answers = [cnn14(piece) for piece in pieces]
    cnn14.windows = Windows(0.5)
    assert cnn14.windows.starts(112, 44, cnn14.frontend) == [0, 43, 68]
    heard = cnn14(spectrogram)
    mean = torch.stack([answer.probabilities for answer in answers]).mean(dim=0)
    torch.testing.assert_close(heard.probabilities, mean)
    embedding = torch.stack([answer.features.embedding for answer in answers]).mean(dim=0)
    torch.testing.assert_close(heard.features.embedding, embedding)
    for joined, of_window in zip(heard.features.maps, answers[0].features.maps, strict=True):
        assert joined.shape[1::2] == of_window.shape[1::2]
        assert joined.shape[2] == round(112 * of_window.shape[2] / 44)


def test_a_sound_passes_the_windows_of_a_network_that_synthesises_it(cnn14):
    """Frames of a clip, taken as a window, are the sound of the window: what adapters on waveforms hear."""
    waveform = noise(1, 1.0)
    piece = windows_of(cnn14.frontend.analyze(waveform), [43])[0]
    sound = cnn14.frontend.synthesize(piece)
    start, inside = 43 * cnn14.frontend.hop, slice(0, 7990)
    torch.testing.assert_close(sound[:, inside], waveform[:, start : start + 8000][:, inside], atol=1e-5, rtol=0)


def test_the_gradient_of_the_maximum_is_the_loudest_window_s(cnn14):
    cnn14.freeze()
    cnn14.windows = Windows(0.5, pooling="max_logit")
    spectrogram = cnn14.frontend.analyze(noise(1, 1.0))
    log_magnitude = spectrogram.log_magnitude.clone().requires_grad_()
    by_window = [cnn14._hear(piece).logits[0, 2] for piece in windows_of(spectrogram, [0, 43])]
    logit = cnn14(replace(spectrogram, log_magnitude=log_magnitude)).logits[0, 2]
    assert logit.item() == pytest.approx(max(by_window).item(), abs=1e-5)
    (slope,) = torch.autograd.grad(logit, log_magnitude)
    quiet, heard = (slice(44, None), slice(0, 43)) if by_window[0] > by_window[1] else (slice(0, 43), slice(44, None))
    assert slope[:, quiet].abs().max() == 0
    assert slope[:, heard].abs().max() > 0


def test_grad_cam_of_a_long_clip_is_that_of_its_windows(focalnet):
    """Every window weighs its channels by its own gradient, which the mean of logits divides by their number."""
    focalnet.freeze()
    spectrogram = focalnet.frontend.analyze(noise(1, 1.0))
    target = torch.tensor([1])
    pieces = windows_of(spectrogram, [0, 43])
    cams = [class_activations(focalnet, piece, lambda logits: target)[1][-1].cam / 2 for piece in pieces]
    focalnet.windows = Windows(0.5, pooling="mean_logit")
    expected = _join(torch.cat(cams), 1, [0, 43], 44, 87)
    cam = class_activations(focalnet, spectrogram, lambda logits: target)[1][-1].cam
    torch.testing.assert_close(cam, expected)
    method = Gradient(focalnet.describe(), "grad_cam", quantile=None)
    importance = method.importance(focalnet, spectrogram, focalnet(spectrogram), target)
    torch.testing.assert_close(importance, resize_map(expected.relu(), 87, 513))


def test_windows_of_windows_lead_to_the_logits_too(cnn14):
    """As of a network that joins its own maps: CLAP hears a clip in stretches."""
    cnn14.windows = Windows(0.25, pooling="mean_logit")
    nested = WindowedClassifier(cnn14, {"seconds": 0.5, "pooling": "mean_logit"}).freeze()
    spectrogram = nested.frontend.analyze(noise(2, 1.0))
    maps = nested(spectrogram).features
    assert [len(plane) for plane in maps.leading_maps] == [2 * 2 * 2] * 4
    joined = [maps.joined(plane) for plane in maps.leading_maps]
    assert all(map(torch.equal, joined, maps.maps))
    _, activations = class_activations(nested, spectrogram, lambda logits: logits.argmax(dim=1))
    assert activations[0].gradient.shape == maps.maps[0].shape and activations[0].gradient.abs().max() > 0


@pytest.mark.parametrize("pooling", POOLINGS)
def test_networks_in_windows_conform(pooling, classifier):
    classifier.windows = Windows(0.5, 0.3, pooling)
    assert check_classifier(classifier) == []
    assert classifier.describe().logit_scale == (30.0 if pooling.endswith("logit") else 1.0)


def test_a_classifier_of_ones_own_conforms_in_windows():
    assert check_classifier(WindowedClassifier(Conforming(), HALF)) == []


@pytest.mark.parametrize(
    "make",
    [
        partial(Gradient, method="grad_cam"),
        partial(Gradient, method="integrated_gradients", samples=2),
        partial(Perturbation, method="occlusion", segment_seconds=0.5, bands=2),
        partial(QuantileMap, quantile=[0.5, 0.9]),
        partial(QuantileMap, layer=0),
        partial(LMAC, decoder=partial(LightDecoder, width=16)),
    ],
)
def test_interpreters_explain_long_clips(make, focalnet):
    focalnet.windows = Windows.of(HALF)
    assert check_interpreter(make, focalnet) == []


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"seconds": 0}, "windows of seconds=0 cannot be: give a number above 0"),
        ({"seconds": 5, "hop_seconds": 6}, "hop_seconds=6 must be above 0 and no more than the windows' seconds=5"),
        ({"seconds": 5, "hop_seconds": 0}, "hop_seconds=0 must be above 0"),
        ({"seconds": 5, "pooling": "sum"}, "pooling='sum' is not one of mean_probability, "),
        ({"hop_seconds": 1}, "windows={'hop_seconds': 1} must be null, or a mapping with seconds, "),
        ({"seconds": 5, "length": 1}, "windows={'seconds': 5, 'length': 1} must be null, or a mapping"),
        (5.0, "windows=5.0 must be null, or a mapping"),
    ],
)
def test_windows_that_cannot_be_are_told(settings, sentence):
    assert refusal(Windows.of, settings).startswith(sentence)


def test_no_windows_is_no_windows_but_not_for_a_wrapper(cnn14):
    assert Windows.of(None) is None and cnn14.windows is None
    with pytest.raises(UsageError, match="needs windows"):
        WindowedClassifier(cnn14, None)


def test_evidence_of_a_plain_network_joins_nothing():
    plane = torch.rand(2, 3, 4, 5)
    features = Evidence(torch.zeros(2, 2), Features(torch.zeros(2, 1), (plane,))).features
    assert features.leading_maps[0] is plane and features.joined(plane) is plane
