"""The grid of a mask: which bin lies in which cell, and that pooling and enlarging undo each other."""

import pytest
import torch

from interpreters.mask_grid import MaskGrid, mel_position
from models.errors import UsageError


def test_mel_positions_by_hand():
    hertz = torch.tensor([0.0, 700.0, 8000.0])
    position = mel_position(hertz, 8000.0)
    # 2595 log10(2) = 781.17 mel of 2840.02
    torch.testing.assert_close(position, torch.tensor([0.0, 781.17 / 2840.02, 1.0]), rtol=0, atol=1e-4)


def test_bands_are_narrow_where_frequencies_are_low():
    grid = MaskGrid(513, 16000, 4, 64)
    assert grid.bins_in_band[0] == 2  # 0 and 15.6 Hz; the first band ends at 28 Hz
    assert grid.bins_in_band[-1] > 20
    assert grid.bins_in_band.sum() == 513
    assert (grid.member.argmax(dim=1).diff() >= 0).all()


def test_shares_sum_to_one_and_count_a_row_that_is_cut_short():
    grid = MaskGrid(5, 16000, 4, 2)
    share = grid.share(9)
    assert share.shape == (3, 2)
    assert share.sum().item() == pytest.approx(1.0)
    torch.testing.assert_close(share[2], share[0] / 4)


def test_enlarging_and_pooling_undo_each_other():
    grid = MaskGrid(513, 16000, 4, 64)
    cells = torch.rand(2, grid.rows(431), 64)
    plane = grid.enlarge(cells, 431)
    assert plane.shape == (2, 431, 513)
    torch.testing.assert_close(grid.pool(plane), cells)
    assert torch.equal(plane[:, 0], plane[:, 3])
    assert not torch.equal(plane[:, 3], plane[:, 4])


def test_the_mean_of_a_mask_is_its_cells_weighted_by_their_shares():
    grid = MaskGrid(513, 16000, 4, 64)
    cells = torch.rand(2, grid.rows(431), 64)
    mean = grid.enlarge(cells, 431).mean(dim=(1, 2))
    torch.testing.assert_close(mean, (cells * grid.share(431)).sum(dim=(1, 2)))


def test_pooling_by_hand():
    grid = MaskGrid(4, 16000, 2, 1)
    plane = torch.arange(12.0).view(1, 3, 4)
    assert grid.pool(plane).tolist() == [[[3.5], [9.5]]]


def test_band_centres_lie_in_their_bands():
    grid = MaskGrid(513, 16000, 4, 32)
    hertz = torch.linspace(0, 8000, 513)
    centres = grid.band_centres()
    for band in (5, 20, 31):
        inside = hertz[grid.member[:, band].bool()]
        assert inside.min() - 16 < centres[band] < inside.max() + 16


def test_a_grid_without_cells_is_refused():
    with pytest.raises(UsageError, match="bands=0"):
        MaskGrid(513, 16000, 4, 0)
