"""Silenced patches: the grid, additive networks whose Shapley values are known, and how often they are asked."""

import pytest
import torch
from torch import nn

from interpreters.perturbation import Perturbation
from models.classifier import ClassifierInfo, Evidence, Features
from models.errors import UsageError
from models.frontend import Spectrogram

INFO = ClassifierInfo(2, 16000, 1024, (), frozenset({"gradient"}))
FRAMES, BINS, NUM_SAMPLES = 8, 16, 16000


def sound(log_magnitude: torch.Tensor) -> Spectrogram:
    return Spectrogram(log_magnitude, torch.ones_like(log_magnitude, dtype=torch.complex64), NUM_SAMPLES)


class Additive(nn.Module):
    """Logit 0 is <weight, x>, logit 1 far below; counts how many variants it was asked about, and in what batches."""

    def __init__(self):
        super().__init__()
        self.weight = torch.randn(FRAMES, BINS)
        self.batches: list[int] = []

    def forward(self, spectrogram):
        self.batches.append(len(spectrogram))
        score = (self.weight * spectrogram.log_magnitude).sum(dim=(1, 2))
        logits = torch.stack([score, torch.full_like(score, -1e4)], dim=1)
        return Evidence(logits, Features(logits))


def ask(interpreter: Perturbation, network: Additive, log_magnitude: torch.Tensor) -> torch.Tensor:
    spectrogram = sound(log_magnitude)
    with torch.no_grad():
        evidence = network(spectrogram)
        network.batches.clear()
        return interpreter.importance(network, spectrogram, evidence)


def parts(interpreter: Perturbation, network: Additive, log_magnitude: torch.Tensor) -> torch.Tensor:
    """[B, T, F] what each bin's patch adds to the score."""
    patches = interpreter.patches(FRAMES, BINS, NUM_SAMPLES)[0]
    added = network.weight * log_magnitude
    total = torch.stack([(added * (patches == patch)).sum(dim=(1, 2)) for patch in patches.unique()], dim=1)
    return total[:, patches]


def make(method: str, **options) -> Perturbation:
    return Perturbation(INFO, method, output="logit", **{"segment_seconds": 0.25, "bands": 2, "chunk": 3} | options)


def test_the_grid_by_hand():
    patches = Perturbation(INFO, segment_seconds=0.5, bands=2).patches(4, 9, NUM_SAMPLES)[0]  # bins of 1 kHz
    # half of 2840 mel is 1768 Hz, so 0 and 1 kHz are the lower band
    low, high = [0, 0], [1] * 7
    assert patches.tolist() == [low + high, low + high, [2, 2] + [3] * 7, [2, 2] + [3] * 7]


@pytest.mark.parametrize("seconds, rows", [(5.0, 8), (1.0, 2), (0.1, 1), (60.0, 96)])
def test_a_patch_is_as_long_in_every_clip(seconds, rows):
    samples = round(16000 * seconds)
    patches = Perturbation(INFO, segment_seconds=0.625, bands=4).patches(samples // 186 + 1, 513, samples)
    assert patches.unique().tolist() == list(range(4 * rows))


@pytest.mark.parametrize("seconds, rows", [(5.0, 20), (1.0, 4), (0.1, 2)])
def test_a_single_band_leaves_segments_of_time_and_at_least_two(seconds, rows):
    samples = round(16000 * seconds)
    patches = Perturbation(INFO, segment_seconds=0.25, bands=1).patches(samples // 186 + 1, 513, samples)[0]
    assert patches.unique().tolist() == list(range(rows))
    assert (patches == patches[:, :1]).all()


class OneSegment(nn.Module):
    """The log odds of class 0 are twice the level of the last quarter of the clip."""

    def forward(self, spectrogram):
        score = 2 * spectrogram.log_magnitude[:, 6:].mean(dim=(1, 2))
        logits = torch.stack([score, torch.zeros_like(score)], dim=1)
        return Evidence(logits, Features(logits))


@pytest.mark.parametrize("asked, sign", [(0, 1), (1, -1)])
def test_a_surrogate_of_the_log_odds_finds_the_segment_of_time(asked, sign):
    network, spectrogram = OneSegment(), sound(torch.ones(1, FRAMES, BINS))
    options = {"segment_seconds": 0.25, "bands": 1, "samples": 100, "quantile": None}
    interpreter = Perturbation(INFO, "surrogate", "log_odds", **options)
    with torch.no_grad():
        found = interpreter.importance(network, spectrogram, network(spectrogram), torch.tensor([asked]))[0]
    assert (sign * found[6:]).min() > 1.8
    assert found[:6].abs().max() < 0.1


def test_patches_without_a_bin_are_not_counted():
    # two frames and four bins hold at most eight patches
    patches = Perturbation(INFO, segment_seconds=0.01, bands=16).patches(2, 4, NUM_SAMPLES)
    assert patches.unique().tolist() == list(range(int(patches.max()) + 1)) == list(range(8))


@pytest.mark.parametrize("method, samples", [("occlusion", 1), ("kernel_shap", 20)])
def test_the_parts_of_an_additive_network_are_found_exactly(method, samples):
    network, x = Additive(), torch.rand(2, FRAMES, BINS)
    interpreter = make(method, samples=samples)
    torch.testing.assert_close(ask(interpreter, network, x), parts(interpreter, network, x), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("method", ["lime", "surrogate"])
def test_a_regression_ranks_the_parts_of_an_additive_network(method):
    network, x = Additive(), torch.rand(1, FRAMES, BINS)
    interpreter = make(method, samples=200)
    found, known = ask(interpreter, network, x), parts(interpreter, network, x)
    assert torch.corrcoef(torch.stack([found.flatten(), known.flatten()]))[0, 1] > 0.98


@pytest.mark.parametrize("method, passes", [("occlusion", 8 + 1), ("kernel_shap", 21), ("lime", 21), ("surrogate", 21)])
def test_variants_pass_the_classifier_in_chunks(method, passes):
    network = Additive()
    ask(make(method, samples=21), network, torch.rand(1, FRAMES, BINS))
    assert sum(network.batches) == passes
    assert max(network.batches) == 3


@pytest.mark.parametrize("method", ["occlusion", "kernel_shap", "lime", "surrogate"])
@pytest.mark.parametrize("name", ["cnn14", "vit"])
def test_a_clip_has_one_map_in_any_batch(method, name, request):
    classifier = request.getfixturevalue(name).freeze()
    interpreter = Perturbation(classifier.describe(), method, "logit", 0.25, 2, samples=8, chunk=4, quantile=0.5)
    spectrogram = classifier.frontend.analyze(torch.randn(2, 8000))
    before = torch.get_rng_state()
    with torch.no_grad():
        together = interpreter.importance(classifier, spectrogram, classifier(spectrogram))
        alone = interpreter.importance(classifier, spectrogram[1:], classifier(spectrogram[1:]))
        mask = interpreter.interpret(classifier, spectrogram, classifier(spectrogram)).mask
    torch.testing.assert_close(alone[0], together[1], rtol=1e-3, atol=1e-3 * together.abs().max().item())
    assert together.isfinite().all() and together[0].unique().numel() > 1
    # whole patches are kept
    patches = interpreter.patches(*mask.shape[1:], 8000)[0]
    assert all(mask[0, patches == patch].unique().numel() == 1 for patch in patches.unique())
    assert torch.equal(torch.get_rng_state(), before)


def test_the_draws_follow_the_seed():
    network, x = Additive(), torch.rand(1, FRAMES, BINS)
    one, again, other = (ask(make("lime", samples=10, seed=seed), network, x) for seed in (1, 1, 2))
    assert torch.equal(one, again) and not torch.equal(one, other)


def test_mistakes_are_told():
    with pytest.raises(UsageError, match="method='gradient' must be one of occlusion, kernel_shap, lime"):
        Perturbation(INFO, "gradient")
    with pytest.raises(UsageError, match=r"segment_seconds=0 must be above 0 and bands=4 at least 1"):
        Perturbation(INFO, segment_seconds=0)
    with pytest.raises(UsageError, match="bands=0 at least 1"):
        Perturbation(INFO, bands=0)
