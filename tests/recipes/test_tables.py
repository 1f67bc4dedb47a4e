"""The page's tables come from the kept results and nowhere else."""

import json

import pytest

from models.errors import UsageError
from recipes import tables
from recipes.config.recipe import load_recipe

CLASSIFIER = {
    "experiment": "small",
    "interpreter": None,
    "classifier": {"weights": "folder/some.pt"},
    "training": {"parameters": 1_234_567, "epochs": 3, "valid_acc": 0.5},
    "device": "cpu, 1 threads",
    "data": {"contamination": "clean"},
    "metrics": {"acc": 0.25},
}
SWEPT = {
    "experiment": "map",
    "interpreter": {"quantile": 0.9, "kept_quartiles": [0.1, 0.2, 0.3, 0.4, 0.502]},
    "classifier": {"experiment": "small"},
    "data": {"contamination": {"kind": "mixture", "snr_db": 12.0412}},
    "metrics": {"acc": 0.25, "fid_i": 0.3051, "sps": None},
    "sweep": [{"quantile": 0.5, "fid_i": 0.5, "fa": 0.1, "fa_raw_cosine": 0.01, "kept": 0.5}],
}


def test_the_page_is_what_its_command_writes():
    page = tables.PAGE.read_text(encoding="utf-8")
    assert tables.fill_page(page, tables.load_results()) == page
    assert "| cnn14_scratch |" in page


def test_rows_by_hand():
    assert "| small | 1.2M | pretrained: some.pt | 3 | 0.5 | 0.25 | cpu, 1 threads |" in tables.classifier_table(
        [CLASSIFIER, SWEPT]
    )
    row = "| map, q = 0.9 | small | mixture, 12.0 dB | 0.25 | 0.305 |  |  |  |  |  |  |  |  | "
    row += "0.10 / 0.20 / 0.30 / 0.40 / 0.50 |"
    assert tables.interpreter_table([CLASSIFIER, SWEPT]).splitlines()[2:] == [row]


def test_a_cross_validation_is_one_row(tmp_path, monkeypatch):
    monkeypatch.setattr(tables, "RESULTS", tmp_path / "kept")
    shared = {"training": {"parameters": 1_234_567, "epochs": 3}, "experiment": "small_cv"}
    summary = CLASSIFIER | shared | {"spread": {"acc": 0.0123}, "folds": {"acc": [0.24, 0.25, 0.26]}}
    assert "| small_cv | 1.2M | pretrained: some.pt | 3 |  | 0.25 ± 0.012, 3 folds |" in tables.classifier_table(
        [summary]
    )
    for folder, content in ((tmp_path, summary), (tmp_path / "fold1", CLASSIFIER)):
        folder.mkdir(exist_ok=True)
        (folder / "metrics.json").write_text(json.dumps(content))
    assert [path.name for path in tables.keep(tmp_path)] == ["small_cv.json"]


def test_sweeps_are_told_for_clean_clips_only():
    clean = SWEPT | {"data": {"contamination": "clean"}}
    assert tables.sweep_table([SWEPT]).count("\n") == 1
    assert tables.sweep_table([clean]).splitlines()[2] == "| map | 0.5 | 0.5 | 0.1 | 0.01 | 0.5 |"
    # a linear head has no cosines to be faithful to
    linear = {"quantile": 0.5, "fid_i": 0.5, "fa": 0.1, "kept": 0.5}
    assert tables.sweep_table([clean | {"sweep": [linear]}]).splitlines()[2] == "| map | 0.5 | 0.5 | 0.1 |  | 0.5 |"


def test_a_run_is_kept_with_its_contaminations(tmp_path, monkeypatch):
    monkeypatch.setattr(tables, "RESULTS", tmp_path / "kept")
    run = tmp_path / "run"
    (run / "mixture").mkdir(parents=True)
    for folder in (run, run / "mixture"):
        (folder / "metrics.json").write_text(json.dumps(SWEPT))
    assert [path.name for path in tables.keep(run)] == ["map.json", "map_mixture.json"]
    (run / "metrics.json").write_text(json.dumps(CLASSIFIER | {"classifier": {"weights": "/home/me/some.pt"}}))
    assert json.loads(tables.keep(run)[0].read_text())["classifier"] == {"weights": "some.pt"}
    with pytest.raises(UsageError, match="holds no metrics"):
        tables.keep(tmp_path / "nothing")


def test_a_published_set_up_is_kept_with_what_differs_and_shown_below_its_row(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(tables, "RESULTS", tmp_path / "kept")
    run = tmp_path / "results/paper_vit/1234"
    run.mkdir(parents=True)
    trained = CLASSIFIER | {"experiment": "paper_vit", "seed": 1234, "data": {"name": "esc50", "clips": 400}}
    trained["data"]["contamination"] = "clean"
    (run / "metrics.json").write_text(json.dumps(trained))
    (run / "hyperparams.yaml").write_text(load_recipe(["hparams/paper/vit.yaml", "--epochs=3"]).text)
    (kept,) = tables.keep(run)
    assert json.loads(kept.read_text())["departures"] == ["epochs: 100 -> 3"]
    row = "| `vit` | ours, seed 1234 | 0.25 | 1.2M | esc50, 400 clips; epochs: 100 -> 3 |"
    page = tables.PAGE.read_text(encoding="utf-8")
    for folder in ("results", "nothing"):  # the run itself, and the kept copy of it
        tables.main(["--paper", f"--runs={tmp_path / folder}"])
        assert capsys.readouterr().out.count(row) == 1
    assert tables.PAGE.read_text(encoding="utf-8") == page
