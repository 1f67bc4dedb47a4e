"""What a card says of an explanation, word for word."""

import numpy as np
import pytest

from recipes.report.cards import Clip, answer, build_card, build_view
from recipes.report.markdown import percent
from recipes.scoring.explanation import Explanation
from recipes.scoring.verdict import FAILS, HOLDS

NAMES = ("rain", "rooster", "dog")


def explanation(whole, relevant, residual, targets=(0,), samples=(16000,)) -> Explanation:
    """Windows with these posteriors; the mask is the map's upper half."""
    importance = np.linspace(-1, 1, 20 * 33, dtype=np.float32).reshape(20, 33)
    posteriors = [np.atleast_2d(np.array(part, dtype=np.float32)) for part in (whole, relevant, residual)]
    sounds = np.zeros((3, sum(samples)), dtype=np.float32)
    mask = (importance > 0).astype(np.float32)
    magnitude = np.ones_like(importance)
    return Explanation(*sounds, magnitude, mask, importance, *posteriors, 1.0, np.array(samples), np.array(targets))


def test_the_answer_names_the_classes_that_win_on_each_part():
    means = [np.array(part) for part in ([0.81, 0.19, 0.0], [0.01, 0.5, 0.49], [0.56, 0.44, 0.0])]
    assert answer(means, 0, NAMES) == (
        "rain, 81 %; next rooster, 19 %. The relevant part alone: rain 1 %, rooster 50 %. Without it: rain 56 %."
    )
    assert answer(means, 1, NAMES).startswith(
        "rain, 81 %; explained is rooster, 19 %. The relevant part alone: rooster"
    )


@pytest.mark.parametrize(
    ("share", "text"), [(0.0, "0 %"), (0.001, "<1 %"), (0.294, "29 %"), (0.9951, ">99 %"), (1.0, "100 %")]
)
def test_percent_never_rounds_to_certainty(share, text):
    assert percent(share) == text


def test_a_view_has_a_verdict_the_winners_and_the_map_where_it_is_not_the_mask():
    found = build_view("", explanation([0.7, 0.2, 0.1], [0.8, 0.1, 0.1], [0.1, 0.8, 0.1]), NAMES, 16000, label="dog")
    assert (found.explained, found.verdict) == ("rain", HOLDS)
    assert list(found.probabilities) == ["rain", "rooster", "dog"]
    assert found.probabilities["rooster"] == pytest.approx((0.2, 0.1, 0.8))
    assert found.importance is not None
    asked = explanation([0.7, 0.2, 0.1], [0.8, 0.1, 0.1], [0.1, 0.8, 0.1], targets=(1,))
    assert build_view("", asked, NAMES, 16000).verdict is FAILS


def test_a_long_sound_has_a_strip_of_windows():
    whole = [[0.7, 0.2, 0.1], [0.1, 0.8, 0.1], [0.3, 0.3, 0.4]]
    long = explanation(whole, whole, whole, targets=(0, 0, 0), samples=(16000, 16000, 8000))
    card = build_card(Clip("long.wav"), [build_view("", long, NAMES, 16000)], long, NAMES, 16000)
    windows = [(window.start_seconds, window.end_seconds, window.prediction) for window in card.windows]
    assert windows == [(0, 1, "rain"), (1, 2, "rooster"), (2, 2.5, "dog")]
    assert card.seconds == 2.5
    assert not card.wrong
