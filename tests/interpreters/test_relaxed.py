"""Relaxed binary masks: the area they have, what noise and temperature do to them."""

import math

import torch

from interpreters.relaxed import offset_for_area, relaxed_binary


def test_the_offset_of_level_logits_is_known():
    share = torch.full((4, 5), 1 / 20)
    offset = offset_for_area(torch.full((2, 4, 5), 3.0), torch.tensor([0.5, 0.2]), share)
    expected = torch.tensor([3.0, 3.0 - math.log(0.2 / 0.8)])
    torch.testing.assert_close(offset, expected, rtol=0, atol=1e-4)


def test_the_offset_gives_the_area_weighted_by_the_cells_shares():
    logits = torch.randn(3, 6, 7) * 4
    share = torch.rand(6, 7)
    share = share / share.sum()
    area = torch.tensor([0.05, 0.2, 0.9])
    offset = offset_for_area(logits, area, share)
    kept = (torch.sigmoid(logits - offset[:, None, None]) * share).sum(dim=(1, 2))
    torch.testing.assert_close(kept, area, rtol=1e-4, atol=1e-5)


def test_cells_are_kept_as_often_as_their_logit_says():
    logits = torch.tensor([-2.0, 0.0, 1.0]).repeat(20000, 1)
    drawn = relaxed_binary(logits, 0.01)
    assert ((drawn < 0.01) | (drawn > 0.99)).float().mean() > 0.97
    shares = (drawn > 0.5).float().mean(dim=0)
    torch.testing.assert_close(shares, torch.sigmoid(logits[0]), rtol=0, atol=0.02)


def test_a_high_temperature_makes_masks_soft():
    drawn = relaxed_binary(torch.randn(1000), 100.0)
    assert (drawn - 0.5).abs().max() < 0.1
