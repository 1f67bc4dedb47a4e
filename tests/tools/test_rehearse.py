"""The rehearsal of the published set-ups: their order, their small data, and what a process held and how it ended."""

import csv
import subprocess
import sys

import pytest

from models.errors import UsageError
from recipes.runs.departures import PAPER
from recipes.synthetic import make_corpus
from tools import rehearse


def test_every_set_up_comes_after_what_it_builds_on():
    names = [path.stem for path in rehearse.in_order(sorted(PAPER.glob("*.yaml"), reverse=True))]
    assert names[:3] == ["cnn14", "focalnet", "vit"]
    for later in ("lmac_finetuned", "lmac_ft16_cth06", "lmac_ft16_cth07"):
        assert names.index("lmac") < names.index(later)
    assert names.index("l2i") < min(names.index("l2i_rth02"), names.index("l2i_rth04"))
    assert set(names) == set(rehearse.SMALLER)


def test_a_set_up_finds_the_runs_that_it_builds_on_below_another_folder(tmp_path):
    assert rehearse.builds_on(PAPER / "lmac_finetuned.yaml", tmp_path) == [
        f"--classifier={tmp_path / 'paper_cnn14/1234/classifier'}",
        f"--start_from={tmp_path / 'paper_lmac/1234'}",
    ]
    assert rehearse.builds_on(PAPER / "vit.yaml", tmp_path) == []


def test_only_settings_that_a_set_up_has_are_passed():
    settings = {"epochs": 1, "channels": 16, "eval_batch_size": 2, "weights": "null"}
    assert rehearse.accepted(PAPER / "vit.yaml", settings) == ["--epochs=1", "--weights=null"]
    assert rehearse.accepted(PAPER / "vit_piq.yaml", settings) == ["--epochs=1", "--channels=16", "--eval_batch_size=2"]


def test_a_set_up_is_shortened_to_an_epoch_unless_it_trains_nothing():
    assert rehearse.one_epoch(PAPER / "l2i.yaml") == ["--epochs=1"]
    assert rehearse.one_epoch(PAPER / "l2i_rth04.yaml") == []
    assert rehearse.one_epoch(PAPER / "vit_attention.yaml") == []


def test_rows_of_one_file_are_of_one_kind_and_a_new_one_replaces_that_of_its_set_up(tmp_path):
    out, conditions = tmp_path / "rows.json", {"full": True, "device": "cpu, 1 threads"}
    first, second = rehearse.Rehearsed("vit", "failed", 1.0, 2.0), rehearse.Rehearsed("lmac", "done", 3.0, 4.0)
    rehearse.keep([first], conditions, out)
    rehearse.keep([second], conditions, out)
    rehearse.keep([rehearse.Rehearsed("vit", "done", 5.0, 6.0)], conditions, out)
    rows = [(row["name"], row["outcome"], row["peak_gb"]) for row in rehearse.kept_rows(conditions, out).values()]
    assert rows == [("vit", "done", 6.0), ("lmac", "done", 4.0)]
    with pytest.raises(UsageError, match=r"rows\.json holds a rehearsal under other conditions, .*'full': True"):
        rehearse.kept_rows({**conditions, "full": False}, out)
    assert rehearse.kept_rows(conditions, None) == {}


def test_what_a_set_up_builds_on_is_asked_for_before_anything_runs(tmp_path):
    recipes = [PAPER / "lmac_finetuned.yaml", PAPER / "cnn14.yaml"]
    with pytest.raises(
        UsageError, match=r"--only: lmac_finetuned builds on lmac, which is not in --folder: name it too"
    ):
        rehearse.check_complete(recipes, tmp_path)
    (tmp_path / "paper_lmac/1234").mkdir(parents=True)
    rehearse.check_complete(recipes, tmp_path)
    with pytest.raises(UsageError, match=r"vit_piq builds on vit, which"):
        rehearse.main(["--only", "vit_piq", f"--folder={tmp_path}"])


def test_small_data_holds_the_first_clips_of_every_class_and_fold(tmp_path):
    data = make_corpus(tmp_path / "all", 10, seconds=1.0)  # two clips of each class in each fold
    small = rehearse.small_data(data, tmp_path / "small", 1)
    with (small / "meta/small.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len({(row["fold"], row["category"]) for row in rows}) == 50
    assert all((small / "audio" / row["filename"]).is_file() for row in rows)
    with pytest.raises(UsageError, match="holds no meta"):
        rehearse.small_data(tmp_path, tmp_path / "none", 1)


@pytest.mark.parametrize(
    ("code", "limit", "outcome"),
    [
        ("pass", 20.0, "done"),
        ("raise SystemExit(3)", 20.0, "failed"),
        ("import time; time.sleep(60)", 1e-6, "more than 1e-06 GB"),
    ],
)
def test_a_process_is_watched_until_it_ends_or_holds_too_much(code, limit, outcome):
    process = subprocess.Popen([sys.executable, "-c", code])
    peak, told = rehearse.watch(process, limit)
    assert told == outcome
    assert process.poll() is not None
    assert 0 <= peak < 1


def test_an_unknown_set_up_is_refused_by_name():
    with pytest.raises(UsageError, match="holds no lmak; it holds cnn14, "):
        rehearse.main(["--only", "lmac", "lmak"])


def test_an_unknown_device_is_refused(tmp_path, capsys):
    with pytest.raises(SystemExit) as ended:
        rehearse.main([f"--folder={tmp_path / 'rows'}", "--device=gpu"])
    assert ended.value.code == 2
    assert "invalid choice: 'gpu'" in capsys.readouterr().err
