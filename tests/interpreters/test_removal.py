"""What takes the place of what a mask removes: bin by bin, and at the level it should have."""

import math

import pytest
import torch

from interpreters.removal import added, filled, noise_floor, scaled, shifted
from models.frontend import FrontEnd, Spectrogram


@pytest.fixture
def clips() -> Spectrogram:
    return FrontEnd().analyze(torch.rand(2, 8000) * 2 - 1)


@pytest.fixture
def rival() -> Spectrogram:
    return FrontEnd().analyze(torch.rand(2, 8000) * 0.2 - 0.1)


def test_every_bin_is_the_clips_or_the_fillings(clips, rival):
    mask = (torch.rand_like(clips.log_magnitude) < 0.3).float()
    found = filled(clips, mask, rival)
    expected = torch.where(mask.bool(), clips.magnitude * clips.phase, rival.magnitude * rival.phase)
    torch.testing.assert_close(found.magnitude * found.phase, expected, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(found.magnitude, expected.abs(), rtol=1e-4, atol=1e-4)


def test_an_empty_and_a_full_mask(clips, rival):
    nothing, everything = torch.zeros_like(clips.log_magnitude), torch.ones_like(clips.log_magnitude)
    torch.testing.assert_close(filled(clips, everything, rival).log_magnitude, clips.log_magnitude)
    torch.testing.assert_close(filled(clips, nothing, rival).log_magnitude, rival.log_magnitude)


def test_silence_as_a_filling_is_what_masking_does(clips):
    mask = torch.rand_like(clips.log_magnitude)
    silence = clips.masked(torch.zeros_like(mask))
    torch.testing.assert_close(filled(clips, mask, silence).log_magnitude, clips.masked(mask).log_magnitude)


def test_a_mask_has_a_finite_gradient_where_all_is_silent(rival):
    silent = FrontEnd().analyze(torch.zeros(2, 8000))
    mask = torch.full_like(silent.log_magnitude, 0.5).requires_grad_()
    filled(silent, mask, silent).log_magnitude.sum().backward()
    assert mask.grad.isfinite().all()


def test_a_mask_has_a_finite_gradient_where_magnitudes_are_tiny(clips):
    """The phase of a sum of two tiny numbers would have a gradient of one over their size."""
    frontend = FrontEnd()
    tiny = clips.masked(torch.full_like(clips.log_magnitude, 1e-40))
    mask = torch.full_like(clips.log_magnitude, 0.5).requires_grad_()
    frontend.synthesize(filled(tiny, mask, tiny)).sum().backward()
    assert mask.grad.isfinite().all()


def test_the_noise_floor_lies_where_it_says_below_the_clip(clips):
    floor = noise_floor(clips, seed=1, level_db=-40.0)
    for clip, noise in zip(clips.magnitude, floor.magnitude, strict=True):
        difference_db = 10 * math.log10(noise.square().mean() / clip.square().mean())
        assert difference_db == pytest.approx(-40.0, abs=0.2)
    assert torch.equal(floor.phase, noise_floor(clips, seed=1).phase)
    assert not torch.equal(floor.phase, noise_floor(clips, seed=2).phase)


def test_sounds_are_added_scaled_and_shifted_as_waveforms_are(clips, rival):
    frontend = FrontEnd()
    own, other = frontend.synthesize(clips), frontend.synthesize(rival)
    total = frontend.synthesize(added(clips, scaled(rival, torch.tensor([0.5, 0.0]))))
    torch.testing.assert_close(total, own + torch.tensor([[0.5], [0.0]]) * other, rtol=1e-4, atol=1e-4)
    moved = shifted(clips, clips=1, frames=3)
    assert torch.equal(moved.log_magnitude[1, 3:], clips.log_magnitude[0, :-3])
    assert torch.equal(moved.phase[0, :3], clips.phase[1, -3:])
