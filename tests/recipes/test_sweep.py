"""One recipe at several values of a key: its runs, its table, and what it refuses before anything runs."""

import json

import pytest
from recipe_files import HPARAMS, TINY

from models.errors import UsageError
from recipes.sweep import main, parse_values, table


def rows_of(path) -> list[list[str]]:
    lines = path.read_text().splitlines()
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_every_value_is_a_run_of_its_own_and_a_row_for_each_contamination(arguments, bundle, tmp_path, capsys):
    options = arguments(HPARAMS / "grad_cam.yaml", tmp_path, f"--classifier={bundle('cnn14')}", "--report_clips=0")
    main([*options, "--over=quantile:0.5,0.9", "--contamination=[clean,white]"])
    path = tmp_path / "grad_cam_by_quantile.md"
    head, _, *rows = rows_of(path)
    assert head[:4] == ["quantile", "clips", "ACC", "FID-I"]
    assert [row[:2] for row in rows] == [["0.5", "clean"], ["0.5", "white"], ["0.9", "clean"], ["0.9", "white"]]
    for row, folder in zip(rows[::2], ("grad_cam_quantile_0.5", "grad_cam_quantile_0.9"), strict=True):
        metrics = json.loads((tmp_path / folder / "1234/metrics.json").read_text())["metrics"]
        assert float(row[head.index("kept")]) == pytest.approx(metrics["kept"], abs=1e-3)
    assert path.read_text() in capsys.readouterr().out


def test_classifiers_are_swept_too(arguments, tmp_path):
    options = arguments(TINY, tmp_path, "--epochs=1", "--schedule.warmup_epochs=0")
    main([*options, "--over=peak_lr:1e-3,2e-3"])
    _, _, *rows = rows_of(tmp_path / "tiny_by_peak_lr.md")
    assert [row[:2] for row in rows] == [["1e-3", "clean"], ["2e-3", "clean"]]


def test_a_wrong_value_is_told_before_the_first_run(arguments, bundle, tmp_path):
    options = arguments(HPARAMS / "grad_cam.yaml", tmp_path, f"--classifier={bundle('cnn14')}")
    with pytest.raises(UsageError, match=r"quantile=7 must be .*; .*quantile=-1 must be"):
        main([*options, "--over=quantile:0.5,7,-1"])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("text", ["alpha", "alpha:", ":1,2", "alpha:1,,2"])
def test_values_of_another_form_are_refused(text):
    with pytest.raises(UsageError, match="must be a key and its values, such as --over=alpha"):
        parse_values(text)


def test_a_value_named_twice_is_refused():
    with pytest.raises(UsageError, match="names a value twice"):
        parse_values("alpha:0,1,0")


def test_a_score_that_a_row_lacks_is_left_empty():
    rows = [
        {"value": "0", "clips": "clean", "fid_i": 0.5},
        {"value": "0", "clips": "mixture", "fid_i": 0.25, "ap": 0.75},
    ]
    assert table("alpha", rows).splitlines() == [
        "| alpha | clips | FID-I | AP |",
        "| --- | --- | --- | --- |",
        "| 0 | clean | 0.5 |  |",
        "| 0 | mixture | 0.25 | 0.75 |",
    ]


def test_a_sweep_of_one_sound_or_of_names_is_refused(arguments, bundle, tmp_path):
    options = arguments(HPARAMS / "grad_cam.yaml", tmp_path, f"--classifier={bundle('cnn14')}", "--audio=siren.wav")
    with pytest.raises(UsageError, match="a sweep compares scores, and --audio scores nothing: leave it out"):
        main([*options, "--over=quantile:0.5,0.9"])
    with pytest.raises(UsageError, match="--over=experiment:a,b would run one recipe under several names"):
        parse_values("experiment:a,b")
