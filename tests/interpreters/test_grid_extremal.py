"""Extremal perturbation on a mask grid: the area is that of the plane, and the steps improve a wrong start."""

import pytest
import torch
from test_amortized import INFO, Halves, clips, inside

from interpreters.amortized import AmortizedMask
from interpreters.fixed_area import top_share
from interpreters.grid_extremal import GridExtremal
from interpreters.mask_grid import MaskGrid


@pytest.fixture
def grid() -> MaskGrid:
    return MaskGrid(513, 16000, 8, 16)


def test_the_cells_kept_cover_the_area_of_the_plane(grid):
    method, sound = GridExtremal(INFO, grid, 0.2, 1, 1.0, hold=0.0), clips(3)
    frames = sound.log_magnitude.shape[1]
    scores = torch.randn(3, grid.rows(frames), 16)
    for area in (0.1, 0.3):
        kept = (method.cut(scores, area, sound) * grid.share(frames)).sum(dim=(1, 2))
        largest = grid.share(frames).max()
        assert (kept <= area + 1e-5).all() and (kept > area - largest).all()


def test_the_highest_scores_are_kept_and_the_gradient_is_that_of_a_sigmoid(grid):
    method, sound = GridExtremal(INFO, grid, 0.2, 1, 1.0, hold=0.0), clips(1)
    scores = torch.randn(1, grid.rows(sound.log_magnitude.shape[1]), 16, requires_grad=True)
    mask = method.cut(scores, 0.2, sound)
    assert scores[mask.detach().round() == 1].min() > scores[mask.detach().round() == 0].max()
    mask.sum().backward()
    threshold = scores[mask.detach().round() == 1].min().detach()
    soft = torch.sigmoid(scores.detach() - threshold)
    torch.testing.assert_close(scores.grad, soft * (1 - soft))


def test_steps_move_a_wrong_start_to_the_class(grid):
    torch.manual_seed(0)
    classifier, sound = Halves(), clips(4)
    target = classifier(sound).prediction
    start = torch.randn(4, grid.rows(sound.log_magnitude.shape[1]), 16)
    before = grid.enlarge(start, sound.log_magnitude.shape[1])
    after = GridExtremal(INFO, grid, 0.2, 20, 1.0, hold=0.0).improved(classifier, sound, target, start)
    held = GridExtremal(INFO, grid, 0.2, 20, 1.0, hold=100.0).improved(classifier, sound, target, start)
    shares = [inside(top_share(importance, 0.2), target).mean() for importance in (before, held, after)]
    assert shares[2] > shares[0] + 0.1
    assert shares[1] < shares[2]


def test_the_amortised_mask_is_finished_by_steps_and_keeps_its_weights():
    torch.manual_seed(0)
    plain, finished = AmortizedMask(INFO), AmortizedMask(INFO, finish_steps=3)
    assert plain.state_dict().keys() == finished.state_dict().keys()
    finished.load_state_dict(plain.state_dict())
    classifier, sound = Halves(), clips(2)
    evidence = classifier(sound)
    first, second = (each.importance(classifier, sound, evidence) for each in (plain, finished))
    assert first.shape == second.shape
    assert not torch.allclose(first, second)
    assert not second.requires_grad
