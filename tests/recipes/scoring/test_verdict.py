"""The verdict on an explanation: one of four, by whether the relevant part keeps the class and is needed for it."""

import pytest

from recipes.scoring.verdict import FAILS, HOLDS, NOT_ENOUGH, NOT_NEEDED, VERDICTS, verdict


@pytest.mark.parametrize(
    ("relevant", "residual", "expected"),
    [(3, 1, HOLDS), (3, 3, NOT_NEEDED), (1, 2, NOT_ENOUGH), (1, 3, FAILS)],
)
def test_the_four_verdicts(relevant, residual, expected):
    assert verdict(3, relevant, residual) is expected


def test_no_two_look_alike_without_colour():
    assert len({kind.symbol for kind in VERDICTS}) == len({kind.label for kind in VERDICTS}) == 4
