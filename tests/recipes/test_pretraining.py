"""With and without pretrained weights: what is compared, what the table says, and unequal budgets refused."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from recipe_files import HPARAMS

from models.mobilenet import MobileNet
from recipes.pretraining import Arm, check_budget, compare, main
from tests.helpers import refusal
from tests.models.test_mobilenet import published_layout

VALUES = {
    "epochs": 3,
    "batch_size": 32,
    "clip_seconds": 5.0,
    "data_folder": "esc50",
    "subset": None,
    "train_folds": [1, 2, 3],
    "valid_folds": [4],
    "test_folds": [5],
    "folds": None,
    "experiment": "mobilenet",
    "weights": "mn04.pt",
}
SCRATCH = VALUES | {"experiment": "mobilenet_scratch", "weights": None}


def arm(weights: str, correct: list[list[float]]) -> Arm:
    """Two seeds on four clips, of which the first two were cut from one recording."""
    table = np.array(correct)
    results = []
    for seed, scores in enumerate(table.T):
        facts = {"seed": seed, "commit": "abc", "device": "cpu", "seconds": 10.0 + seed, "data": {"name": "esc50"}}
        results.append(facts | {"metrics": {"acc": scores.mean()}, "training": {"valid_acc": 0.5}})
    return Arm("mobilenet", weights, results, table, ["a", "a", "b", "c"])


def test_the_difference_is_taken_clip_by_clip_and_seed_by_seed():
    pretrained = arm("mn04.pt", [[1, 1], [1, 1], [1, 0], [1, 1]])
    scratch = arm("from scratch", [[0, 0], [0, 1], [0, 0], [1, 0]])
    result = compare(pretrained, scratch)
    assert result["pretrained"]["acc"]["mean"] == 7 / 8 and result["scratch"]["acc"]["mean"] == 2 / 8
    difference = result["difference"]
    assert difference["mean"] == 5 / 8 and difference["low"] <= 5 / 8 <= difference["high"] and difference["n"] == 8
    assert [run["acc"] for run in result["scratch"]["runs"]] == [0.25, 0.25]
    cells = pretrained.cells()
    assert cells[:3] == ["mn04.pt", "mobilenet", "2"]
    assert cells[3].startswith("0.875 [") and cells[4:] == ["1.000, 0.750", "0.500", "10"]


@pytest.mark.parametrize("key", ["epochs", "batch_size", "clip_seconds", "train_folds", "subset"])
def test_other_budgets_are_refused(key):
    other = SCRATCH | {key: "another"}
    assert refusal(check_budget, VALUES, other) == (
        f"the two are trained at different budgets, {key}={VALUES[key]!r} and 'another': give both the same value"
    )


def test_what_is_no_comparison_is_refused():
    check_budget(VALUES, SCRATCH)
    assert "pass --weights=" in refusal(check_budget, VALUES | {"weights": None}, SCRATCH)
    assert "give a recipe from scratch" in refusal(check_budget, VALUES, SCRATCH | {"weights": "other.pt"})
    assert "both write to experiment=mobilenet" in refusal(check_budget, VALUES, VALUES | {"weights": None})
    assert "one split" in refusal(check_budget, VALUES | {"folds": "all"}, SCRATCH)
    assert "labels=one" in refusal(check_budget, VALUES | {"labels": "several"}, SCRATCH)


@pytest.mark.parametrize("scratch", [None, "mobilenet_scratch"])
def test_one_command_trains_both_and_leaves_a_table(scratch, arguments, tmp_path, capsys):
    torch.save(published_layout(MobileNet()), tmp_path / "mn04.pt")
    step = ("--debug", "--debug_batches=1", "--debug_epochs=1", "--batch_size=4", "--num_classes=10")
    line = arguments(HPARAMS / "mobilenet.yaml", tmp_path, *step, "--clip_seconds=1.0", "--epochs=1")
    other = [] if scratch is None else [f"--scratch={HPARAMS / scratch}.yaml"]
    main([*line, f"--weights={tmp_path / 'mn04.pt'}", *other, "--seeds", "1", "2"])
    result = json.loads((tmp_path / "mobilenet_pretraining.json").read_text())
    assert result["pretrained"]["weights"] == "mn04.pt" and result["scratch"]["weights"] == "from scratch"
    assert [run["seed"] for run in result["scratch"]["runs"]] == [1, 2]
    name = "mobilenet_from_scratch" if scratch is None else scratch
    assert (Path(tmp_path) / name / "2/classifier/bundle.json").is_file()
    assert capsys.readouterr().out.count("\n| ") >= 3
