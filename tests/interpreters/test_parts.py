"""audioLIME on a clip's parts: shares that sum to 1, tones and clicks told apart, the part that is listened to."""

import numpy as np
import pytest
import torch
from torch import nn

from interpreters.parts import SeparatedParts, factorised, harmonic_percussive
from models.classifier import ClassifierInfo, Evidence, Features
from models.errors import UsageError
from models.frontend import Spectrogram, compress

INFO = ClassifierInfo(2, 16000, 1024, (), frozenset())
FRAMES, BINS, NUM_SAMPLES = 64, 80, 16000
TONE, CLICK = 20, 40  # the bin of a steady tone, the frame of a click


def tone_and_click() -> torch.Tensor:
    """[T, F] linear magnitude: a tone over all frames and a click over all bins."""
    magnitude = torch.zeros(FRAMES, BINS)
    magnitude[:, TONE] = 2.0
    magnitude[CLICK] = 2.0
    return magnitude


def sound(magnitude: torch.Tensor) -> Spectrogram:
    log_magnitude = compress(magnitude)[None]
    return Spectrogram(log_magnitude, torch.ones_like(log_magnitude, dtype=torch.complex64), NUM_SAMPLES)


class Listener(nn.Module):
    """Logit 0 is the level of the tone, logit 1 that of the click."""

    def forward(self, spectrogram):
        x = spectrogram.log_magnitude
        logits = torch.stack([x[:, :, TONE].mean(dim=1), x[:, CLICK].mean(dim=1)], dim=1)
        return Evidence(logits, Features(logits))


def ask(spectrogram: Spectrogram, asked: int, **options) -> torch.Tensor:
    network = Listener()
    with torch.no_grad():
        interpreter = SeparatedParts(INFO, **{"output": "logit", "samples": 200} | options)
        return interpreter.importance(network, spectrogram, network(spectrogram), torch.tensor([asked]))[0]


def test_a_tone_is_harmonic_and_a_click_percussive():
    harmonic, percussive = harmonic_percussive(tone_and_click().numpy())
    assert (harmonic[:CLICK, TONE] == 4).all() and (percussive[:CLICK, TONE] == 0).all()
    assert (percussive[CLICK, :TONE] == 4).all() and (harmonic[CLICK, :TONE] == 0).all()


def test_a_factorisation_tells_sounds_apart_that_take_turns():
    first, second = np.zeros((20, 10), "float32"), np.zeros((20, 10), "float32")
    first[:8, :3], second[12:, 5:] = 3.0, 1.0
    parts = factorised(first + second, 2)
    np.testing.assert_allclose(parts.sum(axis=0), first + second, atol=1e-2)
    order = parts[:, :8, :3].sum(axis=(1, 2)).argsort()
    np.testing.assert_allclose(parts[order[1]], first, atol=1e-2)


@pytest.mark.parametrize("method", SeparatedParts.methods)
def test_shares_sum_to_1_where_there_is_nothing_too(method):
    shares = SeparatedParts(INFO, method, components=3).shares(tone_and_click().numpy())
    assert shares.shape[1:] == (FRAMES, BINS) and shares.min() >= 0
    np.testing.assert_allclose(shares.sum(axis=0), 1, atol=1e-5)


@pytest.mark.parametrize("method, options", [("hpss", {}), ("nmf", {"components": 2})])
def test_the_part_that_the_classifier_listens_to_is_found(method, options):
    spectrogram = sound(tone_and_click())
    of_tone = ask(spectrogram, 0, method=method, segment_seconds=10.0, **options)
    of_click = ask(spectrogram, 1, method=method, segment_seconds=10.0, **options)
    assert of_tone[5, TONE] > 2 * of_tone[CLICK, 5].abs()
    assert of_click[CLICK, 5] > 2 * of_click[5, TONE].abs()


def test_coefficients_of_an_additive_classifier_are_its_weights():
    """The tone alone matters, and its level in each of four segments adds a quarter of the answer."""
    magnitude = torch.zeros(FRAMES, BINS)
    magnitude[:, TONE] = 2.0
    found = ask(sound(magnitude), 0, method="hpss", segment_seconds=0.25, samples=400)
    expected = compress(torch.tensor(2.0)).item() / 4
    torch.testing.assert_close(found[:, TONE], torch.full((FRAMES,), expected), atol=0.02, rtol=0)


def test_a_segment_where_nothing_is_heard_does_not_matter():
    magnitude = torch.zeros(FRAMES, BINS)
    magnitude[:16, TONE] = 2.0
    found = ask(sound(magnitude), 0, method="hpss", segment_seconds=0.25)
    assert found[:8, TONE].min() > 0.1 and found[32:].abs().max() < 0.02


def test_silence_has_no_parts():
    assert not ask(sound(torch.zeros(FRAMES, BINS)), 0).any()


def test_a_clip_has_the_same_map_in_any_company():
    network, magnitudes = Listener(), torch.rand(3, FRAMES, BINS)
    together = Spectrogram(compress(magnitudes), torch.ones(3, FRAMES, BINS, dtype=torch.complex64), NUM_SAMPLES)
    interpreter = SeparatedParts(INFO, samples=20, components=2)
    with torch.no_grad():
        maps = interpreter.importance(network, together, network(together))
        alone = interpreter.importance(network, together[1:2], network(together[1:2]))
    torch.testing.assert_close(maps[1:2], alone)


def test_mistakes_are_told():
    with pytest.raises(UsageError, match="method='vocals' must be one of nmf, hpss"):
        SeparatedParts(INFO, "vocals")
    with pytest.raises(UsageError, match="components=1 must be 2 or more and segment_seconds"):
        SeparatedParts(INFO, components=1)
