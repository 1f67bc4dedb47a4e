"""What `interpret.py` looks for before anything slow: sentences that name what is there and the line to type."""

import os
from pathlib import Path

import pytest
from recipe_files import HPARAMS

from models.errors import UsageError
from recipes.config.recipe import load_recipe
from recipes.runs.required import REQUIRED, fitting_classifiers, require_classifier


@pytest.fixture
def results(tmp_path) -> Path:
    """A results folder of three classifiers, cnn14 the oldest, and of an interpreter's run with a copy of one."""
    for age, (name, tag) in enumerate(
        (("vit", "models.vit.ViT"), ("focalnet", "models.focalnet.FocalNet"), ("cnn14", "models.cnn14.CNN14"))
    ):
        folder = tmp_path / name / "1234" / "classifier"
        folder.mkdir(parents=True)
        (folder / "bundle.json").write_text("{}")
        (folder / "model.yaml").write_text(f"classifier: !new:{tag}\n")
        os.utime(folder / "bundle.json", (1e9 - age, 1e9 - age))
    for kind in ("classifier", "interpreter"):
        (tmp_path / "lmac" / "1234" / kind).mkdir(parents=True)
        (tmp_path / "lmac" / "1234" / kind / "bundle.json").write_text("{}")
    return tmp_path


def told(recipe: str, *changes: str) -> str:
    with pytest.raises(UsageError) as caught:
        load_recipe([str(HPARAMS / f"{recipe}.yaml"), *changes], REQUIRED)
    return str(caught.value)


def test_a_missing_classifier_is_answered_with_those_that_are_there_newest_first(results):
    vit, focalnet, cnn14 = (results / name / "1234/classifier" for name in ("vit", "focalnet", "cnn14"))
    assert told("lmac", f"--output_folder={results}") == (
        f"no trained classifier at results/cnn14_scratch/1234/classifier; there are {vit}, {focalnet}, {cnn14}: "
        f"pass --classifier={vit}"
    )


def test_without_any_the_command_that_trains_it_is_named(tmp_path):
    line = "make one with `python train.py hparams/cnn14_scratch.yaml`, or pass --classifier=path/to/a/classifier"
    assert told("lmac", f"--output_folder={tmp_path}").endswith(line)
    folds = told("lmac", f"--output_folder={tmp_path}", "--folds=all")
    assert "no trained classifier at results/cnn14_scratch/1234/fold1/classifier" in folds
    assert "`python train.py hparams/cnn14_scratch.yaml --folds=all`" in folds


def test_a_runs_folder_given_for_its_classifier_is_told(results):
    run = results / "focalnet/1234"
    assert told("lmac", f"--classifier={run}") == f"{run} is a run's folder: pass --classifier={run / 'classifier'}"


@pytest.mark.parametrize(("wanted", "expected"), [("modulation", ["focalnet"]), ("attention", ["vit"]),
                                                  (None, ["vit", "focalnet", "cnn14"])])  # fmt: skip
def test_only_classifiers_with_the_map_that_a_method_shows_are_named(results, wanted, expected):
    found = fitting_classifiers({"output_folder": str(results), "folds": None, "map": wanted})
    assert [bundle.parts[-3] for bundle in found] == expected


def test_a_classifier_of_every_fold_is_named_without_the_fold(results):
    part = results / "focalnet/1234/fold1/classifier"
    part.mkdir(parents=True)
    (part / "bundle.json").write_text("{}")
    found = fitting_classifiers({"output_folder": str(results), "folds": "all", "map": None})
    assert found == [results / "focalnet/1234/classifier"]


def test_a_bundle_is_not_read(results):
    assert require_classifier(results / "vit/1234/classifier") is None
