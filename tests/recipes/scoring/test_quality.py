"""Proxies of audio quality: hand-computed ratios, invariance to level, and what a mask method must reach."""

import math

import numpy as np
import pytest
import torch

from models.frontend import FrontEnd
from recipes.scoring.explanation import Explanation
from recipes.scoring.quality import SI_SDR_LIMIT_DB, bounded_si_sdr, log_kurtosis_ratio, proxies

NOISE = np.random.default_rng(0).standard_normal((2, 16000))


def test_si_sdr_by_hand():
    # projection of (1, 1) on (1, 0) is (1, 0), and what is left has the same energy: 0 dB
    assert bounded_si_sdr(np.array([1.0, 1.0]), np.array([1.0, 0.0])) == pytest.approx(0)
    # 3 : 1 in amplitude is 20 log10 3
    assert bounded_si_sdr(np.array([3.0, 1.0]), np.array([0.5, 0.0])) == pytest.approx(20 * math.log10(3))


def test_si_sdr_does_not_depend_on_levels_and_is_bounded():
    signal, noise = NOISE
    found = bounded_si_sdr(signal + 0.1 * noise, signal)
    assert found == pytest.approx(20, abs=0.3)
    assert bounded_si_sdr(7 * (signal + 0.1 * noise), 0.01 * signal) == pytest.approx(found)
    assert bounded_si_sdr(signal, 0.3 * signal) == SI_SDR_LIMIT_DB
    assert bounded_si_sdr(np.array([0.0, 1.0]), np.array([1.0, 0.0])) == -SI_SDR_LIMIT_DB
    assert math.isnan(bounded_si_sdr(signal, 0 * signal))


def test_log_kurtosis_ratio_by_hand():
    flat, peak = np.ones((4, 2)), np.array([[1.0, 1.0], [0, 1], [0, 1], [0, 1]])
    # bin 0: E[P^4] / E[P^2]^2 is 1 for the flat one and (1/4) / (1/16) = 4 for the peak; bin 1 does not change
    assert log_kurtosis_ratio(flat, peak) == pytest.approx(math.log(4) / 2)
    assert log_kurtosis_ratio(flat, 100 * flat) == pytest.approx(0)
    assert log_kurtosis_ratio(flat, np.array([[1.0, 0]] * 4)) == pytest.approx(0), "a silent bin tells nothing"
    assert math.isnan(log_kurtosis_ratio(flat, 0 * flat))


def explanation(frontend: FrontEnd, mask: torch.Tensor, change: float = 0.0) -> Explanation:
    wave = torch.from_numpy(0.1 * NOISE[:1]).float()
    found = frontend.analyze(wave)
    relevant = frontend.synthesize(found.masked(mask)) + change * torch.from_numpy(NOISE[1:]).float()
    one = np.ones((1, 2)) / 2
    magnitude, kept = found.log_magnitude[0].numpy(), mask[0].numpy()
    sounds = wave[0].numpy(), relevant[0].numpy(), wave[0].numpy()
    return Explanation(*sounds, magnitude, kept, kept, one, one, one, 1.0, np.array([wave.shape[1]]), np.array([0]))


def test_a_masked_input_is_itself_and_what_a_network_adds_lowers_the_ratio():
    frontend = FrontEnd()
    mask = torch.rand(1, frontend.num_frames(16000), frontend.num_bins)
    clean, added = (proxies(frontend, explanation(frontend, mask, change)) for change in (0.0, 0.05))
    assert clean["si_sdr"] == SI_SDR_LIMIT_DB
    assert added["si_sdr"] < 10
    speckled = proxies(frontend, explanation(frontend, (mask > 0.95).float()))
    even = proxies(frontend, explanation(frontend, torch.ones_like(mask)))
    assert even["log_kurtosis_ratio"] == pytest.approx(0, abs=1e-3)
    assert speckled["log_kurtosis_ratio"] > 0.5
