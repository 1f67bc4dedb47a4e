"""Statistics of scores: intervals and p-values by hand and against SciPy."""

import math

import numpy as np
import pytest
from scipy.stats import permutation_test

from recipes.scoring.statistics import bootstrap_interval, holm, sign_flip_test

IDS = [f"5-{k}" for k in range(40)]
GOOD = np.linspace(0.6, 1.0, 40)


def test_an_interval_by_hand():
    values = np.array([1.0, 0.0, math.nan, 1.0, 0.0] * 100)
    found = bootstrap_interval(values, range(500))
    assert (found["mean"], found["n"]) == (0.5, 400)
    # two standard errors of a proportion
    assert found["low"] == pytest.approx(0.5 - 1.96 * 0.025, abs=0.005)
    assert found["high"] == pytest.approx(0.5 + 1.96 * 0.025, abs=0.005)
    assert bootstrap_interval(np.array([2.0, 2.0]), "ab") == {"mean": 2, "low": 2, "high": 2, "n": 2}
    assert bootstrap_interval(np.array([math.nan]), "a") == {"mean": None, "low": None, "high": None, "n": 0}
    assert bootstrap_interval(GOOD, IDS) == bootstrap_interval(GOOD, IDS)


def test_clips_of_one_recording_are_one_witness():
    values = np.random.default_rng(0).normal(0.2, 1, 50)
    alone, copied = (
        bootstrap_interval(values, range(50)),
        bootstrap_interval(np.repeat(values, 4), np.repeat(range(50), 4).tolist()),
    )
    assert copied == pytest.approx(alone | {"n": 200})
    differences, recordings = values[:, None], list(range(50))
    assert sign_flip_test(np.repeat(differences, 4, axis=0), sorted(recordings * 4)) == pytest.approx(
        sign_flip_test(differences, recordings)
    )
    # as if they were 200 witnesses
    assert sign_flip_test(np.repeat(differences, 4, axis=0), range(200)) < sign_flip_test(differences, recordings)


def test_the_least_p_value_survives_the_correction_for_many_pairs():
    pairs = 60
    found = holm(sign_flip_test(np.ones((40, pairs)), range(40)))
    assert found.max() < 0.05


def test_the_permutation_test_is_scipys():
    differences = np.random.default_rng(1).normal(0.3, 1, 30)
    expected = permutation_test(
        (differences,), np.mean, permutation_type="samples", n_resamples=9999, random_state=np.random.default_rng(0)
    ).pvalue
    found = sign_flip_test(np.stack([differences, -differences, np.zeros(30)], axis=1), range(30))
    assert found[0] == pytest.approx(expected, abs=0.02)
    assert found[0] == found[1]
    assert found[2] == 1


def test_five_equal_differences_have_a_sixteenth():
    # of 32 signs, two are as extreme
    assert sign_flip_test(np.ones((5, 1)), range(5))[0] == pytest.approx(2 / 32, abs=0.01)


def test_clips_without_a_pair_change_nothing():
    some = np.random.default_rng(2).normal(0.5, 1, 20)
    padded = np.concatenate([some, np.full(20, math.nan)])
    found = [sign_flip_test(one[:, None], range(len(one)))[0] for one in (padded, some)]
    assert found[0] == pytest.approx(found[1], abs=0.02)


def test_holm_by_hand():
    assert holm(np.array([0.01, 0.04, 0.03])).tolist() == pytest.approx([0.03, 0.06, 0.06])
    assert holm(np.array([0.5, 0.9])).tolist() == [1, 1]


def test_an_interval_takes_listeners_and_clips_as_samples():
    rng = np.random.default_rng(0)
    listeners, clips = rng.normal(0, 10, (40, 1)), rng.normal(0, 5, (1, 30))
    estimate = bootstrap_interval(50 + listeners + clips)
    # standard error of the mean with both as random effects: sqrt(10^2 / 40 + 5^2 / 30) = 1.83
    assert estimate["mean"] == pytest.approx(50 + listeners.mean() + clips.mean())
    assert (estimate["high"] - estimate["low"]) / (2 * 1.96) == pytest.approx(
        math.hypot(listeners.std() / 40**0.5, clips.std() / 30**0.5), rel=0.1
    )
    assert bootstrap_interval(np.array([[40.0, np.nan], [60.0, np.nan]]))["mean"] == 50
    assert bootstrap_interval(np.full((2, 2), np.nan)) == {"mean": None, "low": None, "high": None, "n": 0}
