"""The leaderboard: pages from files, runs that may not be compared."""

import csv
import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest

from models.errors import UsageError
from recipes.compare import main, write_leaderboard
from recipes.report.leaderboard_page import leaderboard_markdown
from recipes.report.markdown import fill_tables
from recipes.runs.identity import Identity
from recipes.runs.methods import load_methods
from recipes.tables import ROOT
from tests.helpers import refusal

IDS = [f"5-{k}" for k in range(40)]
GOOD, BAD = np.linspace(0.6, 1.0, 40), np.linspace(0.0, 0.4, 40)


def write_run(folder: Path, name: str, columns: dict, recipe: str = "", part: str = "", **changes) -> Path:
    """A run's folder with metrics.json, clips.csv and, in a contamination's part, draws.csv."""
    given = {"ids": IDS, "sha256": "aa", "draws": "id,source\n", "interpreter": True, "seconds": 0.5, "class": "Any"}
    given |= changes
    where = folder / name / "1234" / part
    where.mkdir(parents=True, exist_ok=True)
    interpreter = {"recipe": recipe or name, "class": given["class"], "parameters": 0}
    interpreter["seconds_per_clip"] = given["seconds"]
    manifest = ["id,recording", *(f"{one},{one}" for one in given["ids"])]
    (folder / name / "1234" / "manifest.csv").write_text("\n".join(manifest))
    facts = {
        "experiment": name,
        "classifier": {"experiment": "cnn14", "sha256": given["sha256"]},
        "interpreter": interpreter if given["interpreter"] else None,
        "data": {"contamination": {"kind": part, "snr_db": 0.0} if part else "clean"},
        "seed": 1234, "commit": "abc", "device": "cpu", "metrics": {},
    }  # fmt: skip
    (where / "metrics.json").write_text(json.dumps(facts))
    if part:
        (where / "draws.csv").write_text(given["draws"])
    columns = {"acc": np.ones(len(given["ids"]))} | columns
    with (where / "clips.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "label", "prediction", *columns])
        writer.writerows(
            [one, "dog", "dog", *row]
            for one, row in zip(given["ids"], np.stack(list(columns.values()), axis=1), strict=True)
        )
    return folder / name / "1234"


def board(tmp_path, *runs, **options) -> list[dict]:
    return write_leaderboard(runs, tmp_path / "out", tmp_path / "out" / "leaderboard.md", **options)


# the leaderboard


def test_the_better_method_leads_and_the_difference_is_the_means(tmp_path):
    runs = [
        write_run(tmp_path, "good", {"fid_i": GOOD, "ad": BAD}),
        write_run(tmp_path, "bad", {"fid_i": BAD, "ad": GOOD}),
    ]
    (group,) = board(tmp_path, *runs)
    good, bad = group["methods"]
    assert (group["group"], group["clips"], group["acc"]) == ("cnn14, clean", 40, 1)
    assert good["leads"] == ["fid_i", "ad"]
    assert bad["leads"] == []
    assert good["seconds_per_clip"] == 0.5
    pairs = list(csv.DictReader((tmp_path / "out/pairs.csv").open()))
    assert [(row["first"], row["second"], row["score"], row["difference"]) for row in pairs] == [
        ("good", "bad", "fid_i", "0.6"), ("good", "bad", "ad", "-0.6")
    ]  # fmt: skip
    assert all(float(row["p"]) == pytest.approx(1e-4) for row in pairs)
    scores = list(csv.DictReader((tmp_path / "out/scores.csv").open()))
    assert (scores[0]["method"], scores[0]["score"], scores[0]["mean"], scores[0]["n"]) == (
        "good",
        "fid_i",
        "0.8",
        "40",
    )
    text = (tmp_path / "out/leaderboard.md").read_text()
    assert "| good | **0.8** [" in text
    assert "| bad | 0.2 [" in text
    assert (tmp_path / "out/cnn14_clean.svg").is_file()


def test_two_that_cannot_be_told_apart_both_lead(tmp_path):
    nearly = GOOD + np.random.default_rng(0).normal(0, 0.1, 40)
    runs = [write_run(tmp_path, "one", {"fid_i": GOOD}), write_run(tmp_path, "two", {"fid_i": nearly})]
    assert [row["leads"] for row in board(tmp_path, *runs)[0]["methods"]] == [["fid_i"], ["fid_i"]]


def test_clips_of_other_order_are_paired_by_id(tmp_path):
    runs = [
        write_run(tmp_path, "one", {"fid_i": GOOD}),
        write_run(tmp_path, "two", {"fid_i": GOOD[::-1]}, ids=IDS[::-1]),
    ]
    assert board(tmp_path, *runs)[0]["methods"][1]["leads"] == ["fid_i"]
    assert float(next(csv.DictReader((tmp_path / "out/pairs.csv").open()))["p"]) == 1


def test_undefined_clips_are_counted(tmp_path):
    some = np.where(np.arange(40) < 10, math.nan, GOOD)
    none = np.full(40, math.nan)
    runs = [write_run(tmp_path, "one", {"iou": some}), write_run(tmp_path, "two", {"iou": none})]
    first, second = board(tmp_path, *runs)[0]["methods"]
    assert (first["scores"]["iou"]["n"], second["scores"]["iou"]["n"]) == (30, 0)
    assert (first["leads"], second["leads"]) == (["iou"], [])
    text = (tmp_path / "out/leaderboard.md").read_text()
    assert ", n 30 |" in text
    assert "| two |  |" in text
    json.loads((tmp_path / "out/leaderboard.json").read_text(), parse_constant=pytest.fail)


def test_each_method_meets_the_control_that_keeps_as_much(tmp_path):
    def keep(share):
        return {"fid_i": GOOD, "kept": np.full(40, share)}

    runs = [write_run(tmp_path, "map", {"fid_i": BAD, "kept": np.full(40, 0.12)})]
    controls = ((0.1, "loudest"), (0.5, "loudest"), (0.7, "matched"))
    runs += [write_run(tmp_path, f"{recipe}_{q}", keep(q), recipe=recipe) for q, recipe in controls]
    with pytest.raises(UsageError, match="--reference=loud is the recipe of none of the runs; theirs are"):
        board(tmp_path, *runs, references=["loudest", "loud"])
    assert "against" not in board(tmp_path, *runs, references=["matched"])[0]["methods"][0]
    (group,) = board(tmp_path, *runs, references=["loudest", "matched"])
    method = group["methods"][0]
    assert method["against"]["control"] == "loudest_0.1"
    difference, p = method["against"]["scores"]["fid_i"]
    # Holm multiplies the least p-value of 9999 draws by the six pairs
    assert (difference, p) == (pytest.approx(-0.6), pytest.approx(6e-4))
    assert "| map | loudest_0.1 | -0.6* |" in (tmp_path / "out/leaderboard.md").read_text()
    dealt = write_run(tmp_path, "dealt", keep(0.13), recipe="dealt", **{"class": "Reordered"})
    (group,) = board(tmp_path, dealt, *runs, references=["loudest", "matched", "dealt"])
    # it deals out the values of another method, and is no method itself
    assert ["against" in row for row in group["methods"]][:2] == [False, True]
    assert group["methods"][1]["against"]["control"] == "loudest_0.1"
    far = write_run(tmp_path, "far", {"fid_i": BAD, "kept": np.full(40, 0.25)})
    assert "against" not in board(tmp_path, far, *runs, references=["loudest", "matched"])[0]["methods"][0]


def test_controls_do_not_compete_for_the_best(tmp_path):
    runs = [
        write_run(tmp_path, "whole", {"fid_i": np.ones(40)}, **{"class": "Constant"}),
        write_run(tmp_path, "map", {"fid_i": BAD}),
    ]
    assert [row["leads"] for row in board(tmp_path, *runs)[0]["methods"]] == [[], ["fid_i"]]


def test_runs_on_other_sounds_of_the_same_names_are_refused(tmp_path):
    runs = [write_run(tmp_path, name, {"fid_i": GOOD}) for name in ("one", "two", "three")]
    for run, sound in zip(runs, ("a1", "a1", "b2"), strict=True):
        heard = {clip: ("dog", sound if clip == IDS[3] else "a1") for clip in IDS}
        Identity(("dog",), {"train": {}, "valid": {}, "test": heard}, 1, {}).keep_in(run)
    assert len(board(tmp_path, *runs[:2])[0]["methods"]) == 2
    old = write_run(tmp_path, "of an older version", {"fid_i": GOOD})
    assert len(board(tmp_path, *runs[:2], old)[0]["methods"]) == 3
    with pytest.raises(UsageError, match=r"one and three .* have different sounds or labels of the clips"):
        board(tmp_path, *runs)


def test_runs_without_recordings_are_refused(tmp_path):
    run = write_run(tmp_path, "one", {"fid_i": GOOD})
    (run / "manifest.csv").write_text("id,label\n5-1,dog\n")
    with pytest.raises(UsageError, match=r"no manifest\.csv with recordings: run interpret\.py again"):
        board(tmp_path, run)


def test_groups_are_classifiers_and_contaminations_and_checks_are_shown(tmp_path):
    run = write_run(tmp_path, "one", {"fid_i": GOOD})
    write_run(tmp_path, "one", {"fid_i": BAD}, part="mixture")
    (run / "checks").mkdir()
    (run / "checks/curves.json").write_text(
        json.dumps({"data": {"steps": 10}, "sweep": [{"axis": "bins", "value": 0.5, "deletion": 0.25}]})
    )
    (run / "checks/curves.csv").write_text("id,deletion,insertion\n5-1,0.25,0.5\n5-2,0.25,1.0\n")
    clean, mixed = board(tmp_path, run)
    assert [clean["group"], mixed["group"]] == ["cnn14, clean", "cnn14, mixture, 0.0 dB"]
    found = clean["methods"][0]["checks"]
    assert found["curves: deletion"] == {"mean": 0.25, "low": 0.25, "high": 0.25, "n": 2}
    assert found["curves: insertion"] == {"mean": 0.75, "low": 0.5, "high": 1.0, "n": 2}
    assert mixed["methods"][0]["checks"] == {}
    text = (tmp_path / "out/leaderboard.md").read_text()
    assert "Checks on 2 to 2 of the clips." in text
    (setting,) = csv.DictReader((tmp_path / "out/checks.csv").open())
    assert list(setting) == ["method", "check", "axis", "value", "layer", "score", "mean"]
    assert list(setting.values()) == ["one", "curves", "bins", "0.5", "", "deletion", "0.25"]
    assert "| one | 0.25 [0.25, 0.25] | 0.75 [0.5, 1] |" in text
    other = write_run(tmp_path, "two", {"fid_i": GOOD})
    (run / "checks").rename(other / "checks")
    (other / "checks/curves.json").write_text(json.dumps({"data": {"steps": 5}, "sweep": []}))
    write_run(tmp_path, "one", {"fid_i": GOOD})
    (run / "checks").mkdir()
    for name, content in (
        ("json", json.dumps({"data": {"steps": 10}, "sweep": [{"axis": "bins", "value": 0.5, "deletion": 0.25}]})),
        ("csv", "id,deletion\n5-1,0.25\n"),
    ):
        (run / f"checks/curves.{name}").write_text(content)
    with pytest.raises(UsageError, match="have different clips or steps of the check curves"):
        board(tmp_path, run, other)
    (run / "checks/curves.csv").unlink()
    with pytest.raises(UsageError, match="has no CSV beside it: make the check again"):
        board(tmp_path, run)


def test_a_check_of_another_classifier_is_refused(tmp_path):
    """`recipes.checks` writes into the run's folder whatever --classifier it is given."""
    run = write_run(tmp_path, "one", {"fid_i": GOOD}, sha256="aa")
    (run / "checks").mkdir()
    (run / "checks/curves.csv").write_text("id,deletion\n5-1,0.25\n")
    for sha256 in ("aa", "bb"):
        result = {"classifier": {"sha256": sha256}, "data": {"steps": 10}, "sweep": []}
        (run / "checks/curves.json").write_text(json.dumps(result))
        if sha256 == "aa":
            assert board(tmp_path, run)[0]["methods"][0]["checks"]
    with pytest.raises(UsageError, match=r"curves\.json is a check of another classifier than .*metrics\.json scores"):
        board(tmp_path, run)


def test_a_cross_validation_is_all_its_folds(tmp_path):
    run = tmp_path / "cv" / "1234"
    for k in (1, 2):
        ids = [f"{k}-{n}" for n in range(40)]
        fold = write_run(tmp_path / f"fold{k}", "cv", {"fid_i": (GOOD, BAD)[k - 1]}, ids=ids, sha256=f"{k}", seconds=k)
        run.mkdir(parents=True, exist_ok=True)
        fold.rename(run / f"fold{k}")
    summary = json.loads((run / "fold1/metrics.json").read_text()) | {"folds": {"fid_i": [0.8, 0.2]}}
    (run / "metrics.json").write_text(json.dumps(summary))
    (group,) = board(tmp_path, run)
    assert (group["group"], group["clips"]) == ("cnn14, clean, 2 folds", 80)
    assert group["methods"][0]["scores"]["fid_i"]["mean"] == pytest.approx(0.5)
    assert group["methods"][0]["seconds_per_clip"] == 1.5
    # scores in another precision lie beside them, in every fold
    for k in (1, 2):
        fold = run / f"fold{k}"
        shutil.copytree(fold, fold / "in_bf16")
    (run / "in_bf16").mkdir()
    shutil.copyfile(run / "metrics.json", run / "in_bf16/metrics.json")
    assert board(tmp_path, run) == [group]
    (beside,) = board(tmp_path, run / "in_bf16")
    assert (beside["clips"], beside["methods"][0]["scores"]["fid_i"]["mean"]) == (80, pytest.approx(0.5))


def test_the_page_keeps_what_stands_around_the_tables(tmp_path):
    run = write_run(tmp_path, "one", {"fid_i": GOOD})
    file = tmp_path / "docs" / "page.md"
    file.parent.mkdir()
    file.write_text("Before.\n<!-- leaderboard -->\nold\n<!-- /leaderboard -->\nAfter.\n")
    main([str(run), f"--out={tmp_path / 'docs/results/board'}", f"--page={file}"])
    text = file.read_text()
    assert text.startswith("Before.\n") and text.endswith("After.\n") and "old" not in text
    assert "![cnn14, clean](results/board/cnn14_clean.svg)" in text


def test_only_the_figures_that_are_asked_for_are_drawn_and_shown(tmp_path):
    runs = [str(write_run(tmp_path, "one", {"fid_i": GOOD}))]
    out = tmp_path / "out"
    main([*runs, f"--out={out}", "--figures"])
    assert list(out.glob("*.svg")) == [] and ".svg" not in (out / "leaderboard.md").read_text()
    main([*runs, f"--out={out}", "--figures", "cnn14, clean"])
    assert [path.name for path in out.glob("*.svg")] == ["cnn14_clean.svg"]
    told = refusal(main, [*runs, f"--out={out}", "--figures", "cnn14, white"])
    assert told == "--figures='cnn14, white' is none of the groups; they are cnn14, clean"


@pytest.mark.parametrize(
    "changes, what",
    [
        ({"ids": [f"4-{k}" for k in range(40)]}, "have different clips"),
        ({"sha256": "bb"}, "have different weights of the classifier"),
        ({"draws": "id,source\n5-0,5-1\n"}, "have different draws"),
    ],
)
def test_what_was_not_scored_alike_is_refused(changes, what, tmp_path):
    runs = [write_run(tmp_path, "one", {"fid_i": GOOD}, part="mixture")]
    runs.append(write_run(tmp_path, "two", {"fid_i": GOOD}, part="mixture", **changes))
    with pytest.raises(UsageError, match=what) as caught:
        board(tmp_path, *(run / "mixture" for run in runs))
    assert "one and two (cnn14, mixture, 0.0 dB)" in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_what_is_no_run_of_an_interpreter_is_refused(tmp_path):
    run = write_run(tmp_path, "one", {"fid_i": GOOD})
    again = write_run(tmp_path / "again", "one", {"fid_i": GOOD})
    with pytest.raises(UsageError, match="there twice"):
        board(tmp_path, run, again)
    classifier = write_run(tmp_path, "cnn14", {}, interpreter=False)
    with pytest.raises(UsageError, match=r"none of the folders holds a run of interpret\.py"):
        load_methods([classifier])
    assert [method.name for method in load_methods([classifier, run])] == ["one"]
    with pytest.raises(UsageError, match=r"holds no metrics\.json"):
        load_methods([tmp_path / "nowhere"])
    (run / "clips.csv").unlink()
    with pytest.raises(UsageError, match=r"no clips\.csv"):
        load_methods([run])


def test_the_docs_are_what_the_command_writes():
    text = (ROOT / "docs/leaderboard.md").read_text(encoding="utf-8")
    groups = json.loads((ROOT / "docs/results/leaderboard/leaderboard.json").read_text(encoding="utf-8"))
    assert groups
    shown = {"mobilenet, clean", "mobilenet, mixture, 0.0 dB"}
    assert fill_tables(text, {"leaderboard": leaderboard_markdown(groups, "results/leaderboard", shown)}) == text
    assert f"## {groups[0]['group']}" in text
    pictures = {path.name for path in (ROOT / "docs/results/leaderboard").glob("*.svg")}
    assert pictures == {"mobilenet_clean.svg", "mobilenet_mixture_0.0_dB.svg"}
    assert all(f"results/leaderboard/{name})" in text for name in pictures)
