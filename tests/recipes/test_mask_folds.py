"""The table of masks over folds: its means and spreads by hand, and the files that are refused."""

import json

import pytest

from models.errors import UsageError
from recipes.mask_folds import main
from recipes.report.mask_table import AVERAGED

CLEAN, MIXED = "clean", "mixture_0dB"


def row(method: str, fold: int, seed: int, fid_i: float, ap: float | None = None, **changes) -> dict:
    """A row of masks.json at 20 % under silence; scores that are not given are 0.5, of the map only with an AP."""
    facts = {"classifier": "mobilenet", "method": method, "clips": CLEAN if ap is None else MIXED, "n": 80}
    scores = dict.fromkeys(AVERAGED, 0.5) | {"fid_i": fid_i, "ap": ap, "pointing": ap, "iou": ap}
    return facts | {"folds": [fold], "seed": seed, "area": 0.2, "removal": "silence"} | scores | changes


@pytest.fixture
def write(tmp_path):
    def write(name: str, *rows: dict):
        path = tmp_path / name
        path.write_text(json.dumps(rows))
        return path

    return write


@pytest.fixture
def three_folds(write):
    """FID-I of the method 0.7, 0.8, 0.9 and of the control 0.6, 0.6, 0.9; fold 3 has 60 clips."""
    return [
        write("a.json", row("lmac", 1, 7, 0.7), row("loudest_bins", 1, 7, 0.6), row("lmac", 1, 7, 0.4, ap=0.6)),
        write("b.json", row("loudest_bins", 2, 7, 0.6), row("lmac", 2, 7, 0.8), row("lmac", 2, 7, 0.6, ap=0.8)),
        write(
            "c.json",
            row("lmac", 3, 7, 0.9, n=60),
            row("loudest_bins", 3, 7, 0.9, n=60),
            row("lmac", 3, 7, 0.8, ap=0.7, n=60),
        ),
    ]


def table_of(tmp_path, files, *options: str) -> list[dict]:
    out = tmp_path / "folds.json"
    main([*map(str, files), f"--out={out}", *options])
    return json.loads(out.read_text())


def row_of(rows: list[dict], method: str, clips: str) -> dict:
    (found,) = [row for row in rows if (row["method"], row["clips"]) == (method, clips)]
    return found


def test_mean_and_standard_deviation_over_files(tmp_path, three_folds):
    rows = table_of(tmp_path, three_folds)
    assert len(rows) == 3
    clean = row_of(rows, "lmac", CLEAN)
    assert (clean["mean"]["fid_i"], clean["spread"]["fid_i"]) == (0.8, 0.1)
    assert (clean["mean"]["fa"], clean["spread"]["fa"]) == (0.5, 0.0)
    assert (clean["folds"], clean["seeds"], clean["files"], clean["n"]) == ([1, 2, 3], [7], 3, 220)
    assert (clean["classifier"], clean["area"], clean["removal"]) == ("mobilenet", 0.2, "silence")
    # deviations -0.1, -0.1 and 0.2 from 0.7: the root of 0.06 / 2
    control = row_of(rows, "loudest_bins", CLEAN)
    assert (control["mean"]["fid_i"], control["spread"]["fid_i"]) == (0.7, 0.1732)
    mixed = row_of(rows, "lmac", MIXED)
    assert (mixed["mean"]["ap"], mixed["spread"]["ap"]) == (0.7, 0.1)


def test_a_score_that_clean_clips_lack_is_left_out_of_their_row(tmp_path, three_folds):
    clean = row_of(table_of(tmp_path, three_folds), "lmac", CLEAN)
    assert not {"ap", "pointing", "iou"} & (clean["mean"].keys() | clean["spread"].keys())


def test_other_settings_are_not_summed_up(tmp_path, write):
    files = []
    for fold, fid_i in ((1, 0.7), (2, 0.9)):
        at_headline = row("lmac", fold, 7, fid_i)
        others = row("lmac", fold, 7, 0.1, area=0.3), row("lmac", fold, 7, 0.2, removal="noise_floor")
        files.append(write(f"{fold}.json", *others, at_headline))
    (found,) = table_of(tmp_path, files)
    assert found["mean"]["fid_i"] == 0.8


def test_a_second_seed_of_one_fold_is_another_file(tmp_path, write):
    files = [write("one.json", row("lmac", 5, 1, 0.7)), write("two.json", row("lmac", 5, 2, 0.8))]
    (found,) = table_of(tmp_path, files)
    assert (found["folds"], found["seeds"], found["files"], found["n"]) == ([5], [1, 2], 2, 160)


def test_a_method_that_a_file_lacks_is_left_out_and_told(tmp_path, write, capsys):
    files = [
        write("a.json", row("lmac", 1, 7, 0.7), row("piq", 1, 7, 0.7)),
        write("b.json", row("lmac", 2, 7, 0.8), row("l2i", 2, 7, 0.7)),
    ]
    assert [found["method"] for found in table_of(tmp_path, files)] == ["lmac"]
    assert "left out, because some file lacks them: piq, l2i\n" in capsys.readouterr().out


def test_the_tables_and_the_page(tmp_path, three_folds, capsys):
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- mask_folds -->\nstale\n<!-- /mask_folds -->\nafter\n")
    table_of(tmp_path, three_folds, f"--page={page}")
    told, text = capsys.readouterr().out, page.read_text()
    assert text.startswith("before\n") and text.endswith("after\n") and "stale" not in text
    for line in (
        "| method | FID-I | FA | AI % | AD % | folds | clips |",
        "| lmac | 0.8 (0.1) | 0.5 (0) | 0.5 (0) | 0.5 (0) | 3 | 220 |",
        "| loudest_bins | 0.7 (0.17) | 0.5 (0) | 0.5 (0) | 0.5 (0) | 3 | 220 |",
        "| method | FID-I | FA | AI % | AD % | AP | pointing | IoU | folds | clips |",
    ):
        assert line in text.splitlines() and line in told.splitlines()
    assert "mean over 3 files (folds 1, 2, 3; seeds 7)" in text


@pytest.mark.parametrize(
    "second, message",
    [
        (row("lmac", 1, 7, 0.8), r"first.json and .*second.json are both of fold 1 with seed 7"),
        (row("lmac", 2, 7, 0.8, folds=[2, 1]), "are both of fold 1 with seed 7"),
        (row("piq", 2, 7, 0.8), "have no method in common"),
        (row("lmac", 2, 7, 0.8, classifier="cnn14"), "explains mobilenet and .* explains cnn14"),
        (row("lmac", 2, 7, 0.8, area=0.3), "second.json has no masks of 20% of the plane under silence"),
        ({"method": "lmac"}, "second.json does not hold rows of masks"),
    ],
)
def test_files_that_make_no_table_are_refused(tmp_path, write, second, message):
    control = {"method": "loudest_bins"}
    first = write("first.json", row("lmac", 1, 7, 0.7), row("lmac", 1, 7, 0.6) | control)
    other = write("second.json", second, second | control)
    with pytest.raises(UsageError, match=message) as refused:
        main([str(first), str(other), f"--out={tmp_path / 'folds.json'}"])
    assert "\n" not in str(refused.value) and not (tmp_path / "folds.json").exists()


def test_controls_alone_are_no_common_method(tmp_path, write):
    files = [write(f"{fold}.json", row("loudest_bins", fold, 7, 0.5)) for fold in (1, 2)]
    with pytest.raises(UsageError, match="have no method in common"):
        table_of(tmp_path, files)


@pytest.mark.parametrize("content", ["{", None])
def test_what_is_no_json_and_what_is_not_there_is_refused(tmp_path, write, content):
    first, other = write("first.json", row("lmac", 1, 7, 0.7)), tmp_path / "second.json"
    if content is not None:
        other.write_text(content)
    with pytest.raises(UsageError, match=r"second.json cannot be read as JSON"):
        table_of(tmp_path, [first, other])


def test_one_file_has_no_spread(tmp_path, write):
    with pytest.raises(UsageError, match="a spread needs two files or more"):
        table_of(tmp_path, [write("first.json", row("lmac", 1, 7, 0.7))])
