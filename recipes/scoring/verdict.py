"""The verdict on an explanation, in words: does its relevant part keep the class, and is the part needed for it?"""

from dataclasses import dataclass

NOTABLE = 0.1
"""A class of at least this probability is always listed, beside the one that is explained."""


@dataclass(frozen=True)
class Verdict:
    """One of four answers. key: in files and filters. symbol: tells them apart without colour. rule: its meaning."""

    key: str
    label: str
    symbol: str
    rule: str


HOLDS = Verdict("holds", "holds", "✓", "the relevant part alone keeps the class, and without it the class is lost")
NOT_NEEDED = Verdict(
    "not_needed",
    "keeps but is not needed",
    "◐",
    "the relevant part alone keeps the class, but without it the class stays, too",
)
NOT_ENOUGH = Verdict(
    "not_enough",
    "needed but not enough",
    "◑",
    "without the relevant part the class is lost, but the part alone does not keep it",
)
FAILS = Verdict("fails", "fails", "✗", "the relevant part alone loses the class, and without it the class stays")
VERDICTS = (HOLDS, NOT_NEEDED, NOT_ENOUGH, FAILS)


def verdict(explained: int, relevant: int, residual: int) -> Verdict:
    """The verdict on the explanation of one class, from the classes predicted on the relevant part and the residual."""
    keeps_class, loses_class = relevant == explained, residual != explained
    if keeps_class:
        return HOLDS if loses_class else NOT_NEEDED
    return NOT_ENOUGH if loses_class else FAILS
