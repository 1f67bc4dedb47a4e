"""From a batch of spectrograms to per-clip scores: by hand, with as few classifier passes as there must be."""

import math
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from interpreters.base import Interpretation, Interpreter, masked
from models.classifier import ClassifierInfo, Evidence, Features
from models.frontend import FrontEnd, Spectrogram
from recipes.scoring.batch import LabelledClips, mask_scores, part_scores, score_batch, split_error

BINS = 4


def spectrogram(rows: list[list[float]]) -> Spectrogram:
    """B clips of one frame and F bins of these log1p magnitudes."""
    values = torch.tensor(rows).unsqueeze(1)
    return Spectrogram(values, torch.ones_like(values, dtype=torch.complex64), 100)


def truth(*labels: int) -> torch.Tensor:
    """Of clips of one label out of two."""
    return torch.nn.functional.one_hot(torch.tensor(labels), 2).bool()


class TwoBins(nn.Module):
    """Logits are the first two bins, times a scale. Counts clips."""

    def __init__(self, scale: float = 1.0):
        super().__init__()
        self.scale, self.clips = scale, 0

    def forward(self, given: Spectrogram) -> Evidence:
        self.clips += len(given)
        logits = self.scale * given.log_magnitude[:, 0, :2]
        return Evidence(logits, Features(logits))


class Masks(Interpreter):
    """One fixed mask over the bins for every setting of its sweep."""

    def __init__(self, *masks: list[float]):
        super().__init__(ClassifierInfo(2, 16000, 1024, (), frozenset({"gradient"})))
        self.masks = masks

    def interpret(self, classifier, given, evidence, target=None) -> Interpretation:
        return next(self.sweep(classifier, given, evidence))

    def sweep(self, classifier, given, evidence, target=None):
        for mask in self.masks:
            yield masked(given, torch.tensor(mask).expand_as(given.log_magnitude), evidence.prediction)


def probability(first: float, second: float) -> float:
    """Softmax of two logits, at the first."""
    return 1 / (1 + math.exp(second - first))


def test_every_column_by_hand():
    # clip 0 is class 0 and clip 1 class 1; the mask keeps bin 0 and loses bin 1
    given = spectrogram([[3.0, 1.0, 0.0, 2.0], [1.0, 2.0, 5.0, 0.0]])
    (found,) = score_batch(TwoBins(), Masks([1.0, 0.0, 0.0, 1.0]), LabelledClips(given, truth(0, 0)))
    whole = [probability(3, 1), probability(2, 1)]
    kept = [probability(3, 0), probability(0, 1)]
    removed = [probability(0, 1), probability(2, 0)]
    expected = {
        "row": [0, 1],
        "label": [0, 0],
        "prediction": [0, 1],
        "probability": whole,
        "acc": [1, 0],
        "fid_i": [1, 0],
        "fa": [whole[0] - removed[0], whole[1] - removed[1]],
        "ai": [100, 0],
        "ad": [0, 100 * (whole[1] - kept[1]) / whole[1]],
        "ag": [100 * (kept[0] - whole[0]) / (1 - whole[0]), 0],
        # half of four bins: Gini index 1/2, entropy ln 2
        "sps": [0.5, 0.5],
        "comp": [math.log(2)] * 2,
        "kept": [0.5, 0.5],
        "relevant_prediction": [0, 0],
        "residual_prediction": [1, 1],
        "split_db": [-100, -100],
    }
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        assert found[name].tolist() == pytest.approx(values, rel=1e-5, abs=1e-6), name
        assert found[name].shape == (2,)


def test_raw_cosines_leave_the_scale_out():
    clips = LabelledClips(spectrogram([[0.3, 0.1, 0.0, 0.0]]), truth(0))
    (found,) = score_batch(TwoBins(30.0), Masks([1.0, 0.0, 1.0, 1.0]), clips, logit_scale=30.0)
    assert found["fa"].item() == pytest.approx(probability(9, 3) - probability(0, 3), abs=1e-6)
    assert found["fa_raw_cosine"].item() == pytest.approx(probability(0.3, 0.1) - probability(0, 0.1), abs=1e-6)


@pytest.mark.parametrize("settings", [1, 3])
def test_q_settings_cost_1_plus_2_q_passes_a_clip(settings):
    classifier, masks = TwoBins(), [[1.0, 0.0, 0.0, float(k)] for k in range(settings)]
    clips = LabelledClips(spectrogram([[1.0] * BINS] * 5), truth(0, 0, 0, 0, 0))
    found = list(score_batch(classifier, Masks(*masks), clips))
    assert len(found) == settings
    assert classifier.clips == 5 * (1 + 2 * settings)
    assert [columns["kept"][0].item() for columns in found] == [(1 + k) / 4 for k in range(settings)]


def test_a_batch_scores_as_its_clips_do():
    given, masks = spectrogram([[3.0, 1.0, 0.0, 2.0], [1.0, 2.0, 5.0, 0.0]]), Masks([1.0, 0.5, 0.0, 1.0])
    (together,) = score_batch(TwoBins(), masks, LabelledClips(given, truth(0, 1)))
    for k in range(2):
        (alone,) = score_batch(TwoBins(), masks, LabelledClips(given[k : k + 1], truth(k)))
        assert {name: column.item() for name, column in alone.items()} == pytest.approx(
            {name: column[k].item() for name, column in together.items()} | {"row": 0}
        )


def test_an_empty_mask_has_no_sparseness():
    clips = LabelledClips(spectrogram([[3.0, 1.0, 0.0, 2.0]]), truth(0))
    (found,) = score_batch(TwoBins(), Masks([0.0] * BINS), clips)
    assert math.isnan(found["sps"].item())
    assert math.isnan(found["comp"].item())
    assert found["kept"].item() == 0
    # what is removed is everything: the residual is the input
    assert found["fa"].item() == pytest.approx(0, abs=1e-6)


def test_of_trained_methods_the_relevant_part_is_described_too():
    """The mask is even, and the relevant part is not."""
    clips = LabelledClips(spectrogram([[3.0, 1.0, 0.0, 0.0]]), truth(0))
    method = Masks([1.0] * BINS)
    (untrained,) = score_batch(TwoBins(), method, clips)
    assert "sps_relevant" not in untrained
    method.trainable = True
    (scores,) = score_batch(TwoBins(), method, clips)
    assert scores["sps"].item() == pytest.approx(0)
    # of 0, 0, 1, 3: (-3 * 0 - 1 * 0 + 1 * 1 + 3 * 3) / (4 * 4)
    assert scores["sps_relevant"].item() == pytest.approx(10 / 16)
    assert scores["comp_relevant"].item() == pytest.approx(-(0.75 * math.log(0.75) + 0.25 * math.log(0.25)))


def test_relevant_and_residual_are_not_interchangeable():
    whole, kept, removed = (TwoBins()(spectrogram([row])) for row in ([3.0, 1.0], [3.0, 0.0], [0.0, 1.0]))
    target = torch.tensor([0])
    right, swapped = part_scores(whole, kept, removed, target), part_scores(whole, removed, kept, target)
    assert all(right[name].item() != swapped[name].item() for name in ("fid_i", "fa", "ai", "ad", "ag"))


def test_a_mask_is_described_over_the_whole_plane():
    mask = torch.zeros(1, 2, 5)
    mask[0, 0, 0] = 1
    found = mask_scores(mask)
    assert found["sps"].item() == pytest.approx(0.9)
    assert found["comp"].item() == pytest.approx(0)
    assert found["kept"].item() == pytest.approx(0.1)


def test_the_split_error_is_that_of_the_domain_that_is_split():
    frontend = FrontEnd()
    torch.manual_seed(0)
    sound = 0.1 * torch.randn(3, 8000)
    sound[2] = 0
    whole = frontend.analyze(sound)
    classifier = SimpleNamespace(frontend=frontend)

    def error(relevant: Spectrogram, residual: Spectrogram) -> list[float]:
        parts = Interpretation(relevant, residual, mask, torch.zeros(3, dtype=torch.long), importance=mask)
        return split_error(classifier, whole, parts).tolist()

    mask = torch.rand_like(whole.log_magnitude)
    assert error(whole.masked(mask), whole.masked(1 - mask)) == [-100] * 3
    # a tenth of the sound is lost: 20 dB below it; silence loses nothing
    lossy = error(frontend.analyze(0.5 * sound), frontend.analyze(0.4 * sound))
    assert lossy == pytest.approx([-20, -20, -100], abs=0.1)
    assert max(error(frontend.analyze(0.7 * sound), frontend.analyze(0.3 * sound))) < -90


class HostWaits(TorchFunctionMode):
    """Counts the calls that would make the host wait for a GPU: those that read numbers or how many there are."""

    READS = (Tensor.item, Tensor.tolist, Tensor.__bool__, Tensor.__float__, Tensor.__int__, Tensor.cpu, Tensor.numpy)
    COUNTS = (Tensor.nonzero, torch.nonzero, torch.masked_select, Tensor.masked_select, torch.unique, torch.allclose)

    def __init__(self):
        super().__init__()
        self.calls = 0

    def __torch_function__(self, function, types, args=(), kwargs=None):
        keys = args[1] if function is Tensor.__getitem__ else ()
        keys = keys if isinstance(keys, tuple) else (keys,)
        by_mask = any(isinstance(key, Tensor) and key.dtype == torch.bool for key in keys)
        self.calls += by_mask or function in self.READS + self.COUNTS
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("clips", [1, 6])
@pytest.mark.parametrize("settings", [1, 3])
def test_a_gpu_is_waited_for_as_often_whatever_the_number_of_clips_and_scores(clips, settings):
    masks = Masks(*[[1.0, 0.0, 0.0, 0.0]] * settings)
    batch = LabelledClips(spectrogram([[2.0, 1.0, 0.0, 0.0]] * clips), truth(*[0] * clips))
    with HostWaits() as waits:
        list(score_batch(TwoBins(), masks, batch))
    # once for the classifier's answer; for a setting: finite numbers, five scores of probabilities, the split, and a
    # copy of the columns of each of the three types of number
    assert waits.calls == 1 + 10 * settings
