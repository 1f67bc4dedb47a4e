"""Scores against a known truth: perfect, inverted and empty explainers, hand-computed cases, and a reference."""

import math

import pytest
import torch
from sklearn.metrics import average_precision_score, jaccard_score

from interpreters.ground_truth import (
    Truth,
    average_precision,
    energy_inside,
    intersection_over_union,
    pointing_game,
    si_sdr,
)
from models.frontend import FrontEnd
from recipes.synthetic import make_clip

RATE = 16000
MASK_SCORES = (intersection_over_union, average_precision, pointing_game, energy_inside)
# one clip of two frames and three bins; the last bin is silent
IDEAL = torch.tensor([[[True, False, True], [True, False, True]]])
AUDIBLE = torch.tensor([[[True, True, False], [True, True, False]]])
SALIENCY = torch.tensor([[[0.5, 0.25, 1.0], [0.25, 0.0, 1.0]]])


def planes(count: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    """Random ideal and audible bins of some clips."""
    return torch.rand(count, 20, 30) < 0.3, torch.rand(count, 20, 30) < 0.6


def tones() -> tuple[torch.Tensor, torch.Tensor]:
    """A low tone in the first half of a second and a high one in the second half: [1, N] each."""
    time = torch.arange(RATE) / RATE
    low, high = (torch.sin(2 * math.pi * hertz * time) for hertz in (440.0, 4000.0))
    return (low * (time < 0.5))[None], (high * (time >= 0.5))[None]


def truth(first, second, labels=(0, 1), prediction=0) -> Truth:
    sounds = torch.stack((first, second), dim=1)
    return Truth.of(FrontEnd(), first + second, sounds, torch.tensor([labels]), torch.tensor([prediction]))


def test_a_case_by_hand():
    assert intersection_over_union(SALIENCY, IDEAL, AUDIBLE).item() == pytest.approx(0.75 / 2.25)
    # 0.5 is right, then the two 0.25 come at once and one is right: 1/2 x 1 + 1/2 x 2/3
    assert average_precision(SALIENCY, IDEAL, AUDIBLE).item() == pytest.approx(1 / 2 + 1 / 3)
    assert pointing_game(SALIENCY, IDEAL, AUDIBLE).item() == 1
    assert energy_inside(SALIENCY, IDEAL, AUDIBLE).item() == pytest.approx(0.75)


def test_average_precision_and_iou_are_scikit_learns():
    ideal, audible = planes()
    importance = (torch.rand(3, 20, 30) * 10).round() / 10  # with many equal values
    found = average_precision(importance, ideal, audible)
    overlap = intersection_over_union((importance > 0.5).float(), ideal, audible)
    for k in range(3):
        heard, right, mask = importance[k][audible[k]], ideal[k][audible[k]], importance[k][audible[k]] > 0.5
        assert found[k].item() == pytest.approx(average_precision_score(right.numpy(), heard.numpy()))
        assert overlap[k].item() == pytest.approx(jaccard_score(right.numpy(), mask.numpy()))


@pytest.mark.parametrize("score", MASK_SCORES)
def test_a_perfect_explainer_has_1_and_an_inverted_one_the_least(score):
    ideal, audible = planes()
    assert score(ideal.float(), ideal, audible).tolist() == [1, 1, 1]
    inverted = score((~ideal).float(), ideal, audible)
    if score is average_precision:
        # all wrong bins first, then all right ones at once
        assert inverted.tolist() == pytest.approx(chance(ideal, audible))
    else:
        assert inverted.tolist() == [0, 0, 0]


def chance(ideal, audible) -> list[float]:
    return ((ideal & audible).sum(dim=(1, 2)) / audible.sum(dim=(1, 2))).tolist()


@pytest.mark.parametrize("score", [average_precision, pointing_game, energy_inside])
def test_a_map_that_tells_nothing_has_the_share_of_ideal_bins(score):
    ideal, audible = planes()
    assert score(torch.full(ideal.shape, 0.3), ideal, audible).tolist() == pytest.approx(chance(ideal, audible))


@pytest.mark.parametrize("score", [average_precision, energy_inside])
def test_a_random_map_is_near_the_share_of_ideal_bins(score):
    ideal, audible = torch.rand(4, 200, 100) < 0.3, torch.ones(4, 200, 100, dtype=torch.bool)
    found = score(torch.rand(ideal.shape), ideal, audible)
    assert found.tolist() == pytest.approx(chance(ideal, audible), abs=0.02)


@pytest.mark.parametrize("score", MASK_SCORES)
def test_silent_bins_do_not_count_and_clips_do_not_meet(score):
    ideal, audible = planes()
    importance = torch.rand(ideal.shape)
    other = torch.where(audible, importance, torch.rand(ideal.shape))
    found = score(importance, ideal, audible)
    torch.testing.assert_close(score(other, ideal ^ ~audible, audible), found)
    alone = [score(importance[k : k + 1], ideal[k : k + 1], audible[k : k + 1]) for k in range(3)]
    torch.testing.assert_close(torch.cat(alone), found)


def test_an_empty_map():
    ideal, audible = planes(1)
    empty = torch.zeros(ideal.shape)
    assert intersection_over_union(empty, ideal, audible).item() == 0
    assert math.isnan(energy_inside(empty, ideal, audible).item())


@pytest.mark.parametrize("score", MASK_SCORES)
def test_where_nothing_is_audible_nothing_is_scored(score):
    ideal, audible = torch.ones(1, 4, 5, dtype=torch.bool), torch.zeros(1, 4, 5, dtype=torch.bool)
    assert math.isnan(score(torch.ones(1, 4, 5), ideal, audible).item())


def test_si_sdr_by_hand():
    source = torch.tensor([[1.0, 1.0, 0.0, 0.0]])
    noise = torch.tensor([[0.0, 0.0, 1.0, -1.0]])
    assert si_sdr(source + 0.1 * noise, source).item() == pytest.approx(20)
    assert si_sdr(3 * (source + 0.1 * noise), -2 * source).item() == pytest.approx(20)
    assert si_sdr(source, source).item() == 100
    assert si_sdr(noise, source).item() == -100
    assert math.isnan(si_sdr(torch.zeros(1, 4), source).item())
    assert math.isnan(si_sdr(source, torch.zeros(1, 4)).item())


def test_the_truth_is_the_predicted_sound_in_time_and_frequency():
    first, second = tones()
    frontend = FrontEnd()
    for prediction, source, frames, hertz in ((0, first, slice(5, 38), 440), (1, second, slice(50, 80), 4000)):
        found = truth(first, second, prediction=prediction)
        assert torch.equal(found.source, source)
        assert found.known.tolist() == [True]
        inside = (found.ideal & found.audible)[0]
        peak = round(hertz / RATE * frontend.n_fft)
        assert inside[frames, peak].all()
        silent = slice(50, 80) if prediction == 0 else slice(5, 38)
        assert not inside[silent].any()
    # together they are every audible bin, and they share none
    both = [truth(first, second, prediction=k) for k in (0, 1)]
    assert torch.equal(both[0].ideal & both[0].audible, ~both[1].ideal & both[0].audible)


def test_scores_of_disjoint_sounds_from_perfect_to_inverted():
    first, second = tones()
    frontend, found = FrontEnd(), truth(*tones())
    mixture = frontend.analyze(first + second)
    perfect, inverted = found.ideal.float(), (~found.ideal).float()
    right, wrong = (found.scores(mask, frontend.synthesize(mixture.masked(mask)), mask) for mask in (perfect, inverted))
    assert all(right[name].item() == 1 for name in ("iou", "ap", "pointing", "inside"))
    assert all(wrong[name].item() == 0 for name in ("iou", "pointing", "inside"))
    # equal levels: the mixture is at 0 dB
    assert right["si_sdri"].item() > 20
    assert wrong["si_sdri"].item() < -20
    everything = torch.ones_like(perfect)
    whole = found.scores(everything, first + second, everything)
    assert whole["si_sdri"].item() == pytest.approx(0, abs=1e-4)


def test_a_map_is_told_from_the_mask_that_was_cut_from_it():
    """Two maps with the same half of the bins above their median, whose order within it is opposite."""
    found, generator = truth(*tones()), torch.Generator().manual_seed(0)
    mask = (torch.rand(found.ideal.shape, generator=generator) >= 0.5).float()
    right, wrong = (mask * (1 + found.ideal.float() * sign) for sign in (1, -0.5))
    scores = [found.scores(mask, found.source, importance) for importance in (mask, right, wrong)]
    assert len({one["iou"].item() for one in scores}) == 1
    assert [one["pointing"].item() for one in scores[1:]] == [1, 0]
    assert 0 < scores[0]["pointing"].item() < 1
    assert scores[2]["inside"].item() < scores[0]["inside"].item() < scores[1]["inside"].item()
    assert scores[0]["ap"].item() < scores[1]["ap"].item()


def test_what_a_map_holds_against_the_class_is_not_inside():
    found = truth(*tones())
    signed = torch.where(found.ideal, 1.0, -5.0)
    assert found.scores(found.ideal.float(), found.source, signed)["inside"].item() == 1
    assert math.isnan(found.scores(found.ideal.float(), found.source, -signed.abs())["inside"].item())


def test_synthetic_clips_keep_to_their_exact_support():
    event, other = (make_clip(target, 0, 1.0, RATE, 0) for target in (0, 6))  # a low tone, high noise
    found = truth(*(torch.from_numpy(one.event / 32768).float()[None] for one in (event, other)))
    inside = (found.ideal & found.audible)[0].nonzero()
    frontend = FrontEnd()
    time, hertz = inside[:, 0] * frontend.hop, inside[:, 1] * RATE / frontend.n_fft
    reach = RATE * 0.0232 / 2 + frontend.hop
    assert ((time > event.onset - reach) & (time < event.offset + reach)).all()
    width = 2 / 0.0232  # half the main lobe of a Hamming window
    inside_band = (hertz > event.low_hz - width) & (hertz < event.high_hz + width)
    assert inside_band.float().mean() > 0.95


def test_noise_without_a_label_is_not_of_the_source():
    first, second = tones()
    noise = 0.05 * torch.randn(first.shape, generator=torch.Generator().manual_seed(0))
    labels, prediction = torch.tensor([[0, 1]]), torch.tensor([0])
    found = Truth.of(FrontEnd(), first + second + noise, torch.stack((first, second), dim=1), labels, prediction)
    assert torch.equal(found.source, first)
    both = found.audible & found.ideal
    assert both.sum() <= (truth(first, second).audible & truth(first, second).ideal).sum()
    assert (found.audible & ~found.ideal).sum() > (truth(first, second).audible & ~truth(first, second).ideal).sum()


def test_a_prediction_that_names_neither_sound_has_no_truth():
    first, second = tones()
    found = truth(first, second, labels=(0, 1), prediction=2)
    assert found.known.tolist() == [False]
    scores = found.scores(found.ideal.float(), first, found.ideal.float())
    assert all(math.isnan(value.item()) for value in scores.values())


def test_identical_sounds_and_silence_are_told():
    first, _ = tones()
    same = truth(first, first)
    assert same.ideal.all()
    everything = torch.ones(same.ideal.shape)
    scores = same.scores(everything, first, everything)
    assert [round(scores[name].item(), 6) for name in ("iou", "ap", "pointing", "inside")] == [1, 1, 1, 1]
    assert scores["si_sdri"].item() == 0
    silent = truth(torch.zeros(1, RATE), torch.zeros(1, RATE))
    assert all(math.isnan(one.item()) for one in silent.scores(everything, first, everything).values())


def test_a_bin_more_than_40_db_below_the_loudest_is_silent():
    first, second = tones()
    for down, heard in ((37, True), (43, False)):
        found = truth(first, second * 10 ** (-down / 20))
        peak = round(4000 / RATE * 1024)
        assert found.audible[0, 65, peak].item() is heard
