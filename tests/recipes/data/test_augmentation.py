"""Augmentation of training clips: targets, rolls, gains, and the paper's dropped chunks as its YAML says."""

import random
from pathlib import Path

import pytest
import torch
from hyperpyyaml import load_hyperpyyaml
from torch import nn

from recipes.data.augmentation import Augmentation, TrainingClips

COMMON = Path(__file__).parents[3] / "hparams" / "common"


def clips(batch: int = 6, samples: int = 1600, classes: int = 6) -> TrainingClips:
    return TrainingClips(torch.randn(batch, samples), torch.eye(classes)[torch.arange(batch) % classes])


def blocks(name: str) -> dict:
    with (COMMON / f"{name}.yaml").open() as file:
        return load_hyperpyyaml(file)


def test_nothing_asked_for_changes_nothing():
    given = clips()
    found = Augmentation()(given)
    assert torch.equal(found.waveform, given.waveform)
    assert torch.equal(found.target, given.target)


def test_a_shift_rolls_every_clip_by_an_amount_of_its_own():
    given = clips(batch=8, samples=50)
    found = Augmentation(shift=True)(given)
    offsets = []
    for before, after in zip(given.waveform, found.waveform, strict=True):
        (offset,) = [k for k in range(50) if torch.equal(before.roll(-k), after)]
        offsets.append(offset)
    assert len(set(offsets)) > 1
    assert torch.equal(found.target, given.target)


def test_mixup_mixes_sounds_and_targets_in_the_same_shares():
    # clip k is the constant k-th unit vector, so that its waveform tells what it was mixed from
    given = TrainingClips(torch.eye(6), torch.eye(6))
    found = Augmentation(mixup_alpha=0.4)(given)
    assert torch.allclose(found.target.sum(dim=1), torch.ones(6))
    assert torch.allclose(found.waveform, found.target)
    # a clip keeps at least half of itself
    assert (found.target.diagonal() >= 0.5).all()
    assert ((found.target > 0).sum(dim=1) == 2).any()
    assert found.target.min() >= 0


def test_a_gain_only_attenuates_by_at_most_its_range():
    given = TrainingClips(torch.ones(2000, 3), torch.eye(2)[torch.zeros(2000, dtype=torch.long)])
    gains = Augmentation(gain_db=12.0)(given).waveform
    assert torch.equal(gains[:, 0], gains[:, 2])
    decibels = 20 * torch.log10(gains[:, 0])
    assert decibels.min() >= -12.001
    assert decibels.max() <= 0
    # uniform in dB: mean -6, and both ends are met
    assert decibels.mean().item() == pytest.approx(-6, abs=0.4)
    assert decibels.min() < -11.8
    assert decibels.max() > -0.2


def test_the_last_word_is_the_waveform_augmentations():
    class Negative(nn.Module):
        def forward(self, waveform, lengths):
            assert torch.equal(lengths, torch.ones(len(waveform)))
            return -waveform, lengths

    given = clips()
    assert torch.equal(Augmentation(waveform=Negative())(given).waveform, -given.waveform)


@pytest.mark.parametrize("name", ["light_augmentation", "paper_augmentation", "scratch_augmentation"])
def test_every_block_keeps_shapes_and_target_sums_and_repeats_with_its_seeds(name):
    augmentation, given = blocks(name)["augmentation"], clips(samples=16000)
    found = []
    for _ in range(2):
        torch.manual_seed(3)
        random.seed(3)
        found.append(augmentation(given))
    assert found[0].waveform.shape == given.waveform.shape
    assert torch.isfinite(found[0].waveform).all()
    assert torch.allclose(found[0].target.sum(dim=1), torch.ones(6))
    assert torch.equal(found[0].waveform, found[1].waveform)
    assert torch.equal(found[0].target, found[1].target)
    assert not torch.equal(found[0].waveform, given.waveform)


def test_the_paper_drops_1_to_5_chunks_of_1000_to_2000_samples():
    drop_chunk = blocks("paper_augmentation")["drop_chunk"]
    found = drop_chunk(torch.ones(300, 80000), torch.ones(300))
    silent = found == 0
    starts = (silent[:, 1:] & ~silent[:, :-1]).sum(dim=1) + silent[:, 0]
    assert starts.min() >= 1
    # chunks may touch, so fewer runs than chunks, never more
    assert starts.max() == 5
    total = silent.sum(dim=1)
    assert total.min() >= 1000
    assert total.max() <= 5 * 2000
    # 3 chunks of 1500 samples on average, a little less where they overlap
    assert silent.float().mean().item() == pytest.approx(3 * 1500 / 80000, rel=0.1)
    single = total[starts == 1]
    assert single.min() < 1200


@pytest.mark.parametrize(("name", "reach"), [("paper_augmentation", 0.05), ("scratch_augmentation", 0.08)])
def test_1_to_3_bands_are_dropped_that_reach_as_far_as_the_yaml_says(name, reach):
    drop_frequency = blocks(name)["drop_frequency"]
    impulse = torch.zeros(1, 16000)
    impulse[:, 8000] = 1.0
    shares = []
    for _ in range(40):
        response = torch.fft.rfft(drop_frequency(impulse)).abs()[0]
        shares.append((response < 0.5).float().mean().item())
    # one whole notch is twice its reach wide, less the filter's slopes; those at the ends of the spectrum are cut
    assert any(share == pytest.approx(2 * reach, rel=0.06) for share in shares)
    assert 2.5 * 2 * reach < max(shares) < 3 * 2 * reach
    assert min(shares) > 0


def test_the_paper_augments_three_batches_of_four():
    augmentation, given = blocks("paper_augmentation")["augmentation"], clips(samples=4000)
    random.seed(0)
    changed = sum(not torch.equal(augmentation(given).waveform, given.waveform) for _ in range(200))
    assert pytest.approx(changed, abs=20) == 200 * 0.75
