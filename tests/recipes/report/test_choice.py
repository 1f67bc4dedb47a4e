"""Which clips a report explains: by rule, and the rule is said."""

import torch

from recipes.report.choice import WRONG_PER_CARD, choose_clips
from recipes.scoring.table import ClipTable


def table(faithfulness: list[float], wrong: tuple[int, ...] = ()) -> ClipTable:
    clips = ClipTable()
    label = torch.zeros(len(faithfulness))
    prediction = torch.tensor([float(row in wrong) for row in range(len(label))])
    scores = torch.tensor(faithfulness, dtype=torch.float64)
    clips.add(torch.arange(len(label)), label=label, prediction=prediction, fa=scores)
    return clips


def test_wrong_ones_come_first_then_extremes_then_a_sample():
    faithfulness = [row / 40 for row in range(40)]
    choice = choose_clips(table(faithfulness, wrong=(30, 7)), 8, seed=0)
    rows = list(choice.reasons)
    assert rows[:2] == [7, 30]
    assert len(rows) == 2 + 8
    sample = set(rows[6:])
    others = [row for row in range(40) if row not in {7, 30, *sample}]
    assert rows[2:4] == others[:2]
    assert rows[4:6] == [others[-1], others[-2]]
    assert [choice.reasons[row] for row in (7, rows[2], rows[4], rows[9])] == [
        "", "among the least faithful (FA)", "among the most faithful (FA)", "drawn at random"
    ]  # fmt: skip
    assert choice.rule == (
        "Shown, in this order: both wrong predictions; "
        "the 2 least faithful explanations (lowest FA) of the other clips; the 2 most faithful (highest FA); "
        "4 drawn at random."
    )


def test_the_sample_follows_from_seed_and_clips_not_from_the_method():
    first, second = (choose_clips(table(values), 8, 1) for values in ([0.1 * row for row in range(40)], [0.5] * 40))
    samples = [{row for row, why in one.reasons.items() if why == "drawn at random"} for one in (first, second)]
    assert samples[0] == samples[1] and len(samples[0]) == 4
    assert choose_clips(table([0.5] * 40), 8, 2).reasons != second.reasons


def test_many_wrong_ones_are_cut_off_and_undefined_scores_are_no_extremes():
    choice = choose_clips(table([0.5] * 20, wrong=tuple(range(20))), 1, 0)
    assert list(choice.reasons) == list(range(WRONG_PER_CARD))
    assert choice.rule == "Shown, in this order: the first 5 of 20 wrong predictions."
    choice = choose_clips(table([float("nan")] * 10), 8, 0)
    assert set(choice.reasons.values()) == {"drawn at random"}
    assert choice.rule.startswith("Shown, in this order: no prediction is wrong; 4 drawn")


def test_nothing_is_chosen_where_none_is_asked_for():
    assert choose_clips(table([0.5] * 3, wrong=(1,)), 0, 0).reasons == {}
