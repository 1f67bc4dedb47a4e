"""FreqRISE: the masks that are drawn, the importance by hand and on a classifier that listens to one band."""

import pytest
import torch
from torch import nn

from interpreters.freqrise import FreqRISE
from models.classifier import ClassifierInfo, Evidence, Features
from models.errors import UsageError
from models.frontend import Spectrogram

INFO = ClassifierInfo(2, 16000, 1024, (), frozenset())  # answers only: no maps, no gradient
FRAMES, BINS = 16, 24
BAND = slice(8, 14)


def sound(clips: int = 1) -> Spectrogram:
    log_magnitude = torch.ones(clips, FRAMES, BINS)
    return Spectrogram(log_magnitude, torch.ones_like(log_magnitude, dtype=torch.complex64), 1000)


class Listener(nn.Module):
    """Logit 0 is the mean of one band, logit 1 is 0; counts what it hears, and refuses a gradient."""

    def __init__(self):
        super().__init__()
        self.heard: list[torch.Tensor] = []

    def forward(self, spectrogram):
        assert not torch.is_grad_enabled()
        self.heard.append(spectrogram.log_magnitude)
        score = spectrogram.log_magnitude[:, :, BAND].mean(dim=(1, 2))
        logits = torch.stack([score, torch.zeros_like(score)], dim=1)
        return Evidence(logits, Features(logits))


def ask(interpreter: FreqRISE, network: Listener, spectrogram: Spectrogram, target=None) -> torch.Tensor:
    with torch.no_grad():
        evidence = network(spectrogram)
        network.heard.clear()
        return interpreter.importance(network, spectrogram, evidence, target)


def test_the_importance_is_the_mean_of_masks_weighted_by_their_scores():
    network = Listener()
    found = ask(FreqRISE(INFO, "logit", (4, 4), keep=0.25, samples=7, chunk=3), network, sound())
    assert [len(batch) for batch in network.heard] == [3, 3, 1]
    masks = torch.cat(network.heard)  # the sound is 1 in every bin
    scores = masks[:, :, BAND].mean(dim=(1, 2), keepdim=True)
    torch.testing.assert_close(found[0], (scores * masks).mean(dim=0) / 0.25)


def test_a_mask_keeps_its_share_and_is_as_coarse_as_its_cells():
    interpreter = FreqRISE(INFO, cell=(4, 6), keep=0.3)
    masks = torch.stack([interpreter.draw_mask(FRAMES, BINS) for _ in range(400)])
    assert masks.shape == (400, FRAMES, BINS) and masks.min() >= 0 and masks.max() <= 1
    assert masks.mean().item() == pytest.approx(0.3, abs=0.02)
    # one bin further the mask changes by at most what bilinear enlargement allows
    assert masks.diff(dim=1).abs().max() <= 1 / 4 + 1e-6 and masks.diff(dim=2).abs().max() <= 1 / 6 + 1e-6


def test_it_finds_the_band_that_the_classifier_listens_to():
    found = ask(FreqRISE(INFO, "logit", (4, 4), samples=400), Listener(), sound())
    inside = torch.zeros(BINS, dtype=torch.bool)
    inside[BAND] = True
    by_bin = found[0].mean(dim=0)
    assert by_bin[inside].min() > by_bin[~inside].median()
    assert by_bin.argmax().item() in range(8, 14)


def test_the_other_class_is_found_where_the_first_is_not():
    network = Listener()
    first, second = (ask(FreqRISE(INFO, "log_odds", samples=200), network, sound(), torch.tensor([k])) for k in (0, 1))
    torch.testing.assert_close(first, -second, atol=1e-5, rtol=1e-5)


def test_a_clip_has_the_same_map_in_any_company():
    interpreter, spectrogram = FreqRISE(INFO, samples=10), sound(3)
    together, alone = ask(interpreter, Listener(), spectrogram), ask(interpreter, Listener(), spectrogram[1:2])
    assert torch.equal(together[1:2], alone)
    assert not torch.equal(alone, ask(FreqRISE(INFO, samples=10, seed=1), Listener(), spectrogram[1:2]))


def test_a_clip_smaller_than_a_cell_is_explained():
    assert ask(FreqRISE(INFO, cell=(100, 100), samples=4), Listener(), sound()).shape == (1, FRAMES, BINS)


@pytest.mark.parametrize(
    "options, told",
    [
        ({"cell": (0, 4)}, "cell=.* must be two whole numbers of 1 or more"),
        ({"keep": 1.0}, r"keep=1.0 must be in \(0, 1\)"),
        ({"samples": 0}, "samples=0 and chunk=8 must be 1 or more"),
        ({"output": "odds"}, "output='odds' must be one of logit, probability, log_odds"),
    ],
)
def test_mistakes_are_told(options, told):
    with pytest.raises(UsageError, match=told):
        FreqRISE(INFO, **options)
