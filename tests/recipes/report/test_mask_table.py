"""The summary of masks of fixed areas: means, differences to the controls, and what the page shows of them."""

import pytest

from recipes.report.figures import encode
from recipes.report.mask_table import page_tables, summary_rows, trade_figure
from recipes.runs.mask_scores import MaskFacts, MaskScores
from recipes.scoring.fixed_area import EQUAL_ENERGY, FAITHFULNESS, OF_MAP, settings_of

CLIPS = 20


def method(name: str, level: float, recipe: str | None) -> MaskScores:
    """Scores that are `level` on every clip, in fifths of the clips a tenth more or less."""
    facts = MaskFacts("mobilenet", "abc", name, recipe, "mixture_0dB", (5,), 1234, "1234567", "cpu")
    scores = MaskScores(facts)
    names = [f"clip{number}" for number in range(CLIPS)]
    scores.add_clips(names, names)
    values = [level + 0.1 * ((number % 5) - 2) / 2 for number in range(CLIPS)]
    for setting in settings_of():
        scores.add_values(setting, dict.fromkeys((*FAITHFULNESS, *OF_MAP, "iou", *EQUAL_ENERGY), values))
    return scores


@pytest.fixture(scope="module")
def rows() -> list[dict]:
    return summary_rows(
        [
            method("good", 0.8, "good"),
            method("like", 0.5, "like"),
            method("bad", 0.2, "bad"),
            method("loudest_bins", 0.5, None),
            method("loudest_patches", 0.4, None),
        ]
    )


def row_of(rows: list[dict], name: str) -> dict:
    (row,) = [row for row in rows if (row["method"], row["area"], row["removal"]) == (name, 0.2, "silence")]
    return row


def test_a_row_for_every_method_and_setting(rows):
    assert len(rows) == 5 * len(settings_of())
    row = row_of(rows, "good")
    assert (row["fid_i"], row["ap"], row["n"], row["n_known"]) == (0.8, 0.8, CLIPS, CLIPS)
    low, high = row["interval"]["fid_i"]
    assert 0.75 < low < 0.8 < high < 0.85


def test_differences_to_both_controls_and_their_significance(rows):
    good, like, bad = (row_of(rows, name)["against"] for name in ("good", "like", "bad"))
    assert good["loudest_bins"]["fid_i"]["difference"] == pytest.approx(0.3)
    assert good["loudest_patches"]["fid_i"]["difference"] == pytest.approx(0.4)
    assert good["loudest_bins"]["fid_i"]["p"] < 0.001
    assert like["loudest_bins"]["fid_i"] == {"difference": 0.0, "p": 1.0}
    assert bad["loudest_bins"]["fid_i"]["difference"] == pytest.approx(-0.3)
    assert row_of(rows, "loudest_bins")["against"] == {}


def test_the_page_marks_what_beats_both_controls_and_what_loses_to_both(rows):
    lines = page_tables(rows).splitlines()
    headline = {line.split(" | ")[0].removeprefix("| "): line for line in reversed(lines) if " [" in line}
    assert "0.8 [" in headline["good"] and " * |" in headline["good"]
    assert " * |" not in headline["like"] and "† |" not in headline["like"]
    assert "† |" in headline["bad"]
    assert "## mobilenet, mixture, 0dB" in lines


def test_the_picture_has_a_point_for_every_method_and_a_line_for_every_control(rows):
    figure = trade_figure(rows, ["loudest_bins", "loudest_patches"])
    for axes in figure.axes:
        labels = [line.get_label() for line in axes.lines]
        assert [label for label in labels if not label.startswith("_")] == ["good", "like", "bad"]
        assert len(axes.lines) == 5
    assert encode(figure, "svg").startswith(b"<?xml")


def test_settings_of_one_method_are_joined_to_a_front():
    rows = summary_rows([method("extremal, 10 steps", 0.5, "extremal"), method("extremal, 30 steps", 0.7, "extremal")])
    (line,) = trade_figure(rows, []).axes[0].lines
    assert line.get_xdata() == pytest.approx([0.5, 0.7])
