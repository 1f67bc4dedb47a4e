"""Masks of a fixed area and their controls, by hand."""

import pytest
import torch

from interpreters.fixed_area import equal_energy, loudest_patches, random_patches, top_share


def test_the_most_important_bins_are_kept_and_exactly_so_many():
    importance = torch.tensor([[[0.1, 4.0, 0.2], [3.0, -0.3, 0.0]], [[1.0, 2.0, 3.0], [6.0, 5.0, 4.0]]])
    mask = top_share(importance, 0.5)
    assert mask.tolist() == [[[0, 1, 1], [1, 0, 0]], [[0, 0, 0], [1, 1, 1]]]


def test_a_small_area_keeps_at_least_one_bin():
    mask = top_share(torch.arange(6.0).view(1, 2, 3), 0.01)
    assert mask.tolist() == [[[0, 0, 0], [0, 0, 1]]]


@pytest.mark.parametrize("area", [0.05, 0.1, 0.2, 0.3])
def test_a_level_map_keeps_the_area_in_whole_patches(area):
    mask = top_share(torch.zeros(1, 64, 128), area)
    assert mask.sum() == round(area * 64 * 128)
    sums = mask.view(8, 8, 8, 16).sum(dim=(1, 3))  # patches of 8 frames by 16 bins
    cut = (sums > 0) & (sums < 128)
    assert cut.sum() <= 1  # all but the last patch are whole


def test_ties_are_broken_alike_for_every_clip_and_otherwise_with_another_seed():
    level = torch.zeros(2, 64, 128)
    first = top_share(level, 0.2)
    assert torch.equal(first[0], first[1])
    assert not torch.equal(first, top_share(level, 0.2, seed=1))


def test_order_decides_and_scale_does_not():
    importance = torch.randn(3, 20, 30)
    mask = top_share(importance, 0.3)
    assert torch.equal(mask, top_share(100 * importance - 7, 0.3))
    kept = importance[mask.bool()].view(3, -1).amin(dim=1)
    left = importance[~mask.bool()].view(3, -1).amax(dim=1)
    assert (kept > left).all()


def test_of_equal_bins_at_the_edge_those_in_patches_drawn_first_are_taken():
    level = torch.zeros(1, 16, 32)
    first_seven = top_share(level, 7 / 512)
    importance = level.clone()
    leaders = first_seven.flatten().argsort()[:3]  # three that are not among them
    importance.view(-1)[leaders] = 1.0
    mask = top_share(importance, 10 / 512)
    assert torch.equal(mask, first_seven + importance)


def test_loudest_patches_by_hand():
    sound = torch.tensor([[[0.0, 2.0, 5.0], [4.0, 2.0, 7.0], [1.0, 3.0, 9.0]]])
    patches = loudest_patches(sound, (2, 2))
    assert patches.tolist() == [[[2, 2, 6], [2, 2, 6], [2, 2, 9]]]


def test_random_patches_are_level_inside_and_follow_the_clip():
    clips = torch.rand(2, 9, 7)
    drawn = random_patches(clips, 3, (4, 4))
    assert torch.equal(drawn[:, :4, :4], drawn[:, :1, :1].expand(2, 4, 4))
    assert len(drawn[0].unique()) == 3 * 2
    assert torch.equal(drawn[1:], random_patches(clips[1:], 3, (4, 4)))
    assert not torch.equal(drawn, random_patches(clips, 4, (4, 4)))


def test_equal_energy_keeps_the_loudest_bins_up_to_what_the_mask_holds():
    sound = torch.tensor([[[4.0, 1.0, 1.0], [3.0, 1.0, 0.0]]])
    mask = torch.tensor([[[0.0, 1.0, 1.0], [1.0, 1.0, 1.0]]])  # 6 of 10
    assert equal_energy(sound, mask).tolist() == [[[1, 0, 0], [0, 0, 0]]]  # 4 + 3 would be 7
    assert equal_energy(sound, torch.ones_like(sound)).sum() == 6
    assert equal_energy(sound, torch.zeros_like(sound)).tolist() == [[[1, 0, 0], [0, 0, 0]]]
