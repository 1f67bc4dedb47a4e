"""Controls: what they keep, that a matched one has the reference's values, and draws that no batch changes."""

import pytest
import torch

from interpreters.base import Interpreter, masked
from interpreters.controls import Constant, Ranked, Reordered
from interpreters.metrics import complexity, kept_fraction, sparseness
from models.classifier import ClassifierInfo, Evidence, Features
from models.errors import UsageError
from models.frontend import Spectrogram

INFO = ClassifierInfo(3, 16000, 1024, (), frozenset({"gradient"}))


def sound(log_magnitude: torch.Tensor) -> Spectrogram:
    return Spectrogram(log_magnitude, torch.ones_like(log_magnitude, dtype=torch.complex64), 100)


def evidence(clips: int) -> Evidence:
    return Evidence(torch.eye(3)[[2] * clips], Features(torch.zeros(clips, 1)))


def mask(interpreter: Interpreter, log_magnitude: torch.Tensor) -> torch.Tensor:
    return interpreter.interpret(None, sound(log_magnitude), evidence(len(log_magnitude))).mask


class Reference(Interpreter):
    """A soft mask whose values are the same numbers in another order for every clip."""

    def interpret(self, classifier, spectrogram, evidence, target=None):
        clips, frames, bins = spectrogram.log_magnitude.shape
        values = torch.linspace(0, 1, frames * bins).square()
        rolled = torch.stack([values.roll(7 * clip + 3) for clip in range(clips)])
        return masked(spectrogram, rolled.view(clips, frames, bins), self.asked_class(evidence, target))


def test_the_loudest_bins_by_hand():
    energy = torch.tensor([[[0.1, 4.0, 0.2], [3.0, 0.3, 0.0]]])
    assert mask(Ranked(INFO, "loudest", 0.7), energy).tolist() == [[[0, 1, 0], [1, 0, 0]]]
    soft = mask(Ranked(INFO, "loudest", None), energy)
    torch.testing.assert_close(soft, energy / 4)


def test_random_bins_are_as_many_as_the_quantile_says_wherever_the_sound_is():
    energy = torch.zeros(2, 100, 100)
    energy[:, :50] = 3.0
    energy[1] *= 2
    kept = mask(Ranked(INFO, "random", 0.9), energy)
    assert kept.mean(dim=(1, 2)).tolist() == pytest.approx([0.1, 0.1])
    assert kept[:, :50].mean().item() == pytest.approx(0.1, abs=0.02)
    assert not torch.equal(kept[0], kept[1])


def test_random_bins_follow_from_the_seed_and_the_clip_alone():
    energy = torch.rand(3, 40, 30)
    torch.manual_seed(5)
    before = torch.get_rng_state()
    together = mask(Ranked(INFO, "random", seed=1), energy)
    assert torch.equal(torch.get_rng_state(), before)
    for clip in range(3):
        assert torch.equal(mask(Ranked(INFO, "random", seed=1), energy[clip : clip + 1])[0], together[clip])
    assert not torch.equal(mask(Ranked(INFO, "random", seed=2), energy), together)
    # a rounding of the last bits, as between batches of other sizes, draws the same
    assert torch.equal(mask(Ranked(INFO, "random", seed=1), energy * (1 + 1e-7)), together)


@pytest.mark.parametrize("level", [0.0, 0.5, 1.0])
def test_a_constant_keeps_its_share_of_every_bin(level):
    energy = torch.rand(2, 5, 4)
    answer = Constant(INFO, level).interpret(None, sound(energy), evidence(2))
    assert torch.equal(answer.relevant.log_magnitude, energy * level)
    assert torch.equal(answer.residual.log_magnitude, energy * (1 - level))
    assert answer.target.tolist() == [2, 2]


def test_matched_values_go_to_the_loudest_bins_by_hand():
    energy = torch.tensor([[[5.0, 1.0, 3.0, 2.0]]])

    class Given(Interpreter):
        def interpret(self, classifier, spectrogram, evidence, target=None):
            return masked(spectrogram, torch.tensor([[[0.0, 0.9, 0.25, 0.5]]]), evidence.prediction)

    assert mask(Reordered(INFO, Given(INFO)), energy).tolist() == [[[pytest.approx(0.9), 0.0, 0.5, 0.25]]]


@pytest.mark.parametrize("order", ["loudest", "random"])
def test_a_matched_control_has_the_references_values_in_other_places(order):
    energy = torch.rand(3, 20, 15)
    reference = Reference(INFO)
    theirs, ours = mask(reference, energy), mask(Reordered(INFO, reference, order), energy)
    assert torch.equal(ours.flatten(1).sort().values, theirs.flatten(1).sort().values)
    assert (ours != theirs).float().mean() > 0.9
    torch.testing.assert_close(kept_fraction(ours), kept_fraction(theirs))
    torch.testing.assert_close(sparseness(ours), sparseness(theirs), rtol=0, atol=1e-12)
    torch.testing.assert_close(complexity(ours), complexity(theirs), rtol=0, atol=1e-9)


def test_silent_bins_that_tie_are_placed_the_same_way_in_any_batch():
    energy = torch.zeros(2, 6, 6)
    energy[0, 2, 3] = 1.0
    control = Reordered(INFO, Reference(INFO))
    together, alone = mask(control, energy), mask(control, energy[:1])
    assert torch.equal(together[0], alone[0])
    assert together[0, 2, 3] == 1


def test_a_reference_may_be_given_as_what_builds_it():
    control = Reordered(INFO, Reference)
    assert isinstance(control.reference, Reference)
    assert not control.trainable


def test_mistakes_are_told():
    for make in (lambda: Ranked(INFO, "quietest"), lambda: Reordered(INFO, Reference(INFO), "quietest")):
        with pytest.raises(UsageError, match="order='quietest' must be one of loudest, random"):
            make()
    with pytest.raises(UsageError, match=r"level=1.5 must be in \[0, 1\]"):
        Constant(INFO, 1.5)
