"""Which test clips a report explains: the wrong predictions first, then the extremes, then some at random."""

import math
from dataclasses import dataclass

import numpy as np

from recipes.scoring.table import ClipTable

WRONG_PER_CARD = 5
"""Wrong predictions that are shown for every clip that the recipe asks for (`report_clips`), at most."""


@dataclass(frozen=True)
class Choice:
    """The chosen rows of a table of clips, in the order to show.

    reasons: why each was chosen; empty for a wrong prediction, which speaks for itself. rule: the choice as a sentence.
    """

    reasons: dict[int, str]
    rule: str


def choose_clips(table: ClipTable, count: int, seed: int) -> Choice:
    """Every wrong prediction, up to `WRONG_PER_CARD` times `count`, and `count` of the other clips.

    Of those a quarter are the least faithful explanations and a quarter the most faithful (by FA), and the rest is
    drawn at random. The draw depends on the seed and on the clips alone, so that runs on the same clips share it.
    Nothing is chosen for a count of 0.
    """
    if count == 0:
        return Choice({}, "")
    wrong = []
    for row, (label, prediction) in enumerate(zip(table.columns["label"], table.columns["prediction"], strict=True)):
        if label != prediction:
            wrong.append(row)
    shown_wrong = wrong[: WRONG_PER_CARD * count]
    reasons = dict.fromkeys(shown_wrong, "")
    drawn = np.random.default_rng(seed).permutation(len(table.index)).tolist()
    correct_rows = [row for row in drawn if row not in set(wrong)][:count]
    quarter = count // 4
    random_rows = correct_rows[: count - 2 * quarter]
    by_faithfulness = _by_faithfulness(table, left_out={*wrong, *random_rows})
    least = by_faithfulness[:quarter]
    most = by_faithfulness[quarter:][-quarter:][::-1] if quarter else []
    reasons |= dict.fromkeys(least, "among the least faithful (FA)")
    reasons |= dict.fromkeys(most, "among the most faithful (FA)")
    reasons |= dict.fromkeys(random_rows, "drawn at random")
    return Choice(reasons, _rule(len(shown_wrong), len(wrong), len(least), len(most), len(random_rows)))


def _by_faithfulness(table: ClipTable, left_out: set[int]) -> list[int]:
    """Rows with a defined FA, the least faithful first."""
    faithfulness = table.columns["fa"]
    rows = []
    for row in range(len(table.index)):
        if row not in left_out and not math.isnan(faithfulness[row]):
            rows.append(row)
    return sorted(rows, key=lambda row: faithfulness[row])


def _rule(shown_wrong: int, wrong: int, least: int, most: int, random_clips: int) -> str:
    """How the clips were chosen, for the reader of the page."""
    if not wrong:
        first = "no prediction is wrong"
    elif shown_wrong == wrong:
        first = {1: "the one wrong prediction", 2: "both wrong predictions"}.get(
            wrong, f"all {wrong} wrong predictions"
        )
    else:
        first = f"the first {shown_wrong} of {wrong} wrong predictions"
    parts = [first]
    if least:
        parts.append(f"the {least} least faithful explanations (lowest FA) of the other clips")
    if most:
        parts.append(f"the {most} most faithful (highest FA)")
    if random_clips:
        parts.append(f"{random_clips} drawn at random")
    return "Shown, in this order: " + "; ".join(parts) + "."
