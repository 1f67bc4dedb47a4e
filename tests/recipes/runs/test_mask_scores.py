"""Scores of masks as files: what is written is read back, and what cannot be compared is refused."""

import math
from dataclasses import replace

import pytest

from models.errors import UsageError
from recipes.runs.mask_scores import MaskFacts, MaskScores, read_mask_scores
from recipes.scoring.fixed_area import Setting

FACTS = MaskFacts("mobilenet", "abc", "grad_cam", "grad_cam", "clean", (5,), 1234, "1234567", "cpu")
SETTING = Setting(0.2, "silence")


def scores(**changes) -> MaskScores:
    made = MaskScores(replace(FACTS, **changes))
    made.add_clips(["a", "b"], ["r1", "r2"])
    made.add_values(SETTING, {"fid_i": [1.0, 0.0], "fa": [0.123456789, -0.5], "ap": [math.nan, 0.25]})
    return made


def test_what_is_written_is_read_back(tmp_path):
    scores(method="extremal, 10 steps", epochs=6, cpu_minutes=13.5).write(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "extremal__10_steps.clean.csv",
        "extremal__10_steps.clean.json",
    ]
    (found,) = read_mask_scores(tmp_path)
    assert found.facts == replace(FACTS, method="extremal, 10 steps", epochs=6, cpu_minutes=13.5)
    assert (found.ids, found.recordings) == (["a", "b"], ["r1", "r2"])
    assert found.values(SETTING, "fa").tolist() == [0.12346, -0.5]
    assert found.values(SETTING, "ap")[1] == 0.25
    assert math.isnan(found.values(SETTING, "ap")[0])


def test_values_of_several_batches_follow_one_another():
    made = scores()
    made.add_clips(["c"], ["r3"])
    made.add_values(SETTING, {"fid_i": [1.0], "fa": [0.5], "ap": [1.0]})
    assert made.values(SETTING, "fid_i").tolist() == [1.0, 0.0, 1.0]
    assert made.values(SETTING, "iou") is None


def test_nothing_to_read_and_a_table_that_is_gone(tmp_path):
    with pytest.raises(UsageError, match="holds no scores of masks"):
        read_mask_scores(tmp_path)
    scores().write(tmp_path)
    (tmp_path / "grad_cam.clean.csv").unlink()
    with pytest.raises(UsageError, match="no CSV beside it"):
        read_mask_scores(tmp_path)


def test_scores_of_other_clips_or_classifiers_are_not_mixed(tmp_path):
    scores().write(tmp_path)
    scores(method="lime", clips="mixture_0dB", classifier_sha256="of another kind of clips").write(tmp_path)
    assert len(read_mask_scores(tmp_path)) == 2
    scores(method="lmac", classifier_sha256="def").write(tmp_path)
    with pytest.raises(UsageError, match="explain different classifiers"):
        read_mask_scores(tmp_path)
    longer = scores(method="lmac")
    longer.add_clips(["c"], ["r3"])
    longer.add_values(SETTING, {"fid_i": [1.0], "fa": [0.5], "ap": [1.0]})
    longer.write(tmp_path)
    with pytest.raises(UsageError, match="have different clips"):
        read_mask_scores(tmp_path)


def test_other_sounds_under_the_same_names_are_not_mixed(tmp_path):
    scores(content="1a").write(tmp_path)
    scores(method="of an earlier version").write(tmp_path)
    scores(method="lime", content="1a").write(tmp_path)
    assert [made.facts.content for made in read_mask_scores(tmp_path)] == ["1a", "1a", None]
    scores(method="lmac", content="2b").write(tmp_path)
    with pytest.raises(UsageError, match=r"grad_cam and lmac .* clips of the same names with other sounds or labels"):
        read_mask_scores(tmp_path)
