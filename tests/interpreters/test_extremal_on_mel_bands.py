"""Extremal perturbation on a mask grid: the area is that of the plane, and the steps improve a wrong start."""

import pytest
import torch
from test_amortized import INFO, Halves, clips, inside

from interpreters.amortized import AmortizedMask, Finish
from interpreters.extremal import Cells, Extremal, Objective, Search, StartingMap
from interpreters.fixed_area import top_share
from interpreters.mask_grid import MaskGrid


@pytest.fixture
def grid() -> MaskGrid:
    return MaskGrid(513, 16000, 8, 16)


def on_mel_bands(steps: int, hold: float = 0.0, level: float = 0.0, **search) -> Extremal:
    """The search on the cells of `grid`, from a start that is given."""
    start, objective = StartingMap("flat", level=level), Objective(hold=hold)
    return Extremal(INFO, Search(0.2, steps, **search), Cells((8, 1), 16), start, objective)


def test_the_cells_kept_cover_the_area_of_the_plane(grid):
    method, sound = on_mel_bands(1), clips(3)
    frames = sound.log_magnitude.shape[1]
    scores = torch.randn(3, grid.rows(frames), 16)
    for area in (0.1, 0.3):
        kept = (method.cut(scores, area, sound) * grid.share(frames)).sum(dim=(1, 2))
        largest = grid.share(frames).max()
        assert (kept <= area + 1e-5).all() and (kept > area - largest).all()


def test_the_highest_scores_are_kept_and_the_gradient_is_that_of_a_sigmoid(grid):
    method, sound = on_mel_bands(1), clips(1)
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
    after = on_mel_bands(20).improved(classifier, sound, target, start)
    held = on_mel_bands(20, hold=100.0).improved(classifier, sound, target, start)
    shares = [inside(top_share(importance, 0.2), target).mean() for importance in (before, held, after)]
    assert shares[2] > shares[0] + 0.1
    assert shares[1] < shares[2]


def test_loudness_in_the_start_ranks_cells_that_the_class_leaves_alike(grid):
    classifier, sound = Halves(), clips(2)
    evidence = classifier(sound)
    first = on_mel_bands(1, hold=0.0, rate=1e-9, level=1.0).importance(classifier, sound, evidence)
    loud = grid.enlarge(grid.pool(sound.log_magnitude), sound.log_magnitude.shape[1])
    for importance, level in zip(first, loud, strict=True):
        assert torch.corrcoef(torch.stack((importance.flatten(), level.flatten())))[0, 1] > 0.999


def test_clips_taken_together_have_the_answers_they_have_alone():
    torch.manual_seed(0)
    classifier, sound = Halves(), clips(4)
    evidence = classifier(sound)
    alone = on_mel_bands(5, level=1.0).importance(classifier, sound, evidence)
    together = on_mel_bands(5, level=1.0, chunk=3).importance(classifier, sound, evidence)
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-4)


def test_the_amortised_mask_is_finished_by_steps_and_keeps_its_weights():
    torch.manual_seed(0)
    plain, finished = AmortizedMask(INFO), AmortizedMask(INFO, finish=Finish(3))
    assert plain.state_dict().keys() == finished.state_dict().keys()
    finished.load_state_dict(plain.state_dict())
    classifier, sound = Halves(), clips(2)
    evidence = classifier(sound)
    first, second = (each.importance(classifier, sound, evidence) for each in (plain, finished))
    assert first.shape == second.shape
    assert not torch.allclose(first, second)
    assert not second.requires_grad
