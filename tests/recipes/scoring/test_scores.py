"""The registry of scores: everything that is shown has a name, a direction and a sentence."""

import math

import pytest

from interpreters.ground_truth import SI_SDR_LIMIT_DB
from recipes.scoring.scores import AVERAGED, LARGER, NEITHER, SCORES, SMALLER, heading, sentence


def test_the_scores_of_a_run_stand_in_one_order():
    assert AVERAGED == (
        "acc", "map", "macro_auc", "macro_f1", "precision",
        "fid_i", "fa", "fa_raw_cosine", "ai", "ad", "ag", "sps", "comp", "sps_relevant", "comp_relevant", "kept",
        "split_db", "iou", "ap", "pointing", "inside", "si_sdri",
    )  # fmt: skip
    assert SI_SDR_LIMIT_DB > 0


@pytest.mark.parametrize("score", SCORES.values(), ids=SCORES)
def test_every_score_is_described(score):
    low, high = score.range
    assert (low < high and not math.isnan(low + high)) or math.isinf(high)
    assert score.direction in (LARGER, SMALLER, NEITHER)
    assert score.label and score.sentence and score.unit in ("", "%", "dB")


def test_headings_and_sentences():
    assert [heading(key) for key in ("fid_i", "ai", "si_sdri", "seconds")] == ["FID-I", "AI %", "SI-SDRi dB", "seconds"]
    assert sentence("ad") == "relative drop of the probability on the relevant part; smaller is better"
    assert sentence("kept").endswith("that is kept")
    assert sentence("seconds") == ""
