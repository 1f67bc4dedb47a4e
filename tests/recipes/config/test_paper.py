"""Every published set-up is a row, is built at its full size, and takes a small step from classifier to table."""

import json
import math
import re
from pathlib import Path

import pytest
import torch
from recipe_files import HPARAMS

from models.classifier import ClassifierInfo
from recipes import tables
from recipes.classification import train_classifier
from recipes.config.compose import compose
from recipes.config.recipe import load_recipe
from recipes.interpretation import run_interpreter
from recipes.report.markdown import short_number
from recipes.runs.departures import PAPER, departures
from recipes.runs.results import condition
from tools.rehearse import SMALLER, accepted, builds_on, generated_noise, in_order

FILES = sorted(PAPER.glob("*.yaml"))
TRAINING = [path for path in FILES if "model" in compose(path).tree]
INTERPRETING = [path for path in FILES if "interpreter" in compose(path).tree]
PUBLISHED = json.loads((HPARAMS.parent / "docs/published.json").read_text(encoding="utf-8"))
USER_STUDY = {"lmac_ft16_cth06", "lmac_ft16_cth07", "l2i_rth02", "l2i_rth04"}
ONE_BATCH = ("--debug", "--debug_batches=1", "--debug_epochs=1")
SMALL = {
    "batch_size": 2,
    "eval_batch_size": 2,
    "num_classes": 10,
    "clip_seconds": 1.0,
    "weights": "null",
    "report_clips": 0,
}
# of the networks at the published size: parameters, and channels of the maps
CLASSIFIERS = {
    "focalnet": (87_331_592, (256, 512, 1024, 1024)),
    "vit": (86_548_032, (768,) * 4),
    "cnn14": (75_579_922, (256, 512, 1024, 2048)),
}
OFFERS = frozenset({"maps", "native_map", "gradient"})


INTERPRETERS = {
    "focalnet_modulation": 0,
    "vit_attention": 0,
    "focalnet_piq": 71_405_569,
    "vit_piq": 40_381_441,  # as the released class has; the paper says 44.4M
    "lmac": 236_728_321,
    "lmac_finetuned": 236_728_321,
    "l2i": 237_628_571,  # SpeechBrain's psi and theta; its dictionary is no parameter here
    "lmac_td_alpha0": 8_256_769,
    "lmac_td_alpha075": 147_337_346,
    "lmac_td_alpha1": 147_337_346,
}

CLIPS = 1200
"""Of ESC-50's three training folds."""

CYCLE = (2e-4 - 1e-8) / 65000
"""What a step of the optimiser adds to a classifier's rate."""

HALVED_FROM_104 = {1: 2e-4, 103: 2e-4, 104: 1e-4, 107: 1e-4, 108: 5e-5, 200: 1e-8}
RATES = {
    "focalnet": {1: 1e-8 + 75 * CYCLE, 100: 2.3085e-5},
    "vit": {1: 1e-8 + 75 * CYCLE, 100: 2.3085e-5},
    "cnn14": {1: 1e-8 + 37 * CYCLE, 200: 2.2778e-5},
    "focalnet_piq": {1: 2e-4, 100: 2e-4},
    "vit_piq": {1: 2e-4, 100: 2e-4},
    "l2i": {1: 1e-4, 53: 1e-4, 54: 5e-5, 57: 5e-5, 58: 2.5e-5, 200: 1e-8},
}
"""The rate after some epochs and after the last, of a training whose validation loss grows with every one."""


def name(path: Path) -> str:
    return path.stem


def weights(path: Path) -> list[str]:
    """No recipe may look for a hub in a test."""
    return accepted(path, {"weights": "null"})


def rows() -> list[dict]:
    return [row for paper in PUBLISHED for row in paper["rows"]]


def test_the_folder_holds_the_rows_the_user_study_and_nothing_else():
    assert {row["recipe"] for row in rows()} | USER_STUDY == {*map(name, FILES)}
    assert sorted(TRAINING + INTERPRETING) == FILES


@pytest.mark.parametrize("path", FILES, ids=name)
def test_a_header_names_the_paper_and_every_published_number(path):
    header = path.read_text(encoding="utf-8").partition("\nextends:")[0]
    papers = {paper["paper"] for paper in PUBLISHED for row in paper["rows"] if row["recipe"] == path.stem}
    for paper in papers - {"classifiers"} or {"arXiv"}:
        assert paper in header
    for row in rows():
        if row["recipe"] == path.stem:
            numbers = {value for key, value in row.items() if key not in ("name", "recipe")}
            assert {number for number in numbers if not re.search(rf"\b{re.escape(number)}\b", header)} == set()


@pytest.mark.parametrize("path", FILES, ids=name)
def test_a_set_up_is_named_after_its_file_and_explains_the_classifier_of_its_paper(path, arguments, tmp_path):
    values = load_recipe(arguments(path, tmp_path, *weights(path))).values
    assert values["experiment"] == f"paper_{path.stem}"
    if path in INTERPRETING:
        output, experiment, seed, folder = Path(values["classifier"]).parts
        assert (output, seed, folder) == ("results", "1234", "classifier")
        assert PAPER / f"{experiment.removeprefix('paper_')}.yaml" in TRAINING


@pytest.mark.parametrize("path", TRAINING, ids=name)
def test_a_classifier_has_the_published_size(path, arguments, tmp_path):
    objects = load_recipe(arguments(path, tmp_path, *weights(path))).build()
    classifier = objects["model"]["classifier"]
    count = sum(parameter.numel() for parameter in classifier.parameters())
    assert (count, tuple(classifier.describe().map_channels)) == CLASSIFIERS[path.stem]
    (published,) = [row["parameters"] for row in PUBLISHED[0]["rows"] if row["recipe"] == path.stem]
    assert f"{count / 1e6:.1f}M" == published


@pytest.mark.parametrize("path", INTERPRETING, ids=name)
def test_an_interpreter_has_the_published_size(path, arguments, tmp_path):
    recipe = load_recipe(arguments(path, tmp_path))
    classifier = Path(recipe.values["classifier"]).parts[-3].removeprefix("paper_")
    with torch.device("meta"):  # shapes without memory
        interpreter = recipe.build()["interpreter"]["interpreter"](
            info=ClassifierInfo(50, 16000, 1024, CLASSIFIERS[classifier][1], OFFERS, 30.0)
        )
    count = sum(parameter.numel() for parameter in interpreter.parameters())
    assert count == INTERPRETERS[path.stem.partition("_ft1")[0].partition("_rth")[0]]


@pytest.mark.parametrize("path", [path for path in FILES if compose(path).tree.get("epochs")], ids=name)
def test_a_training_has_the_published_optimiser_and_rates(path, arguments, tmp_path):
    smaller = SMALLER[path.stem] if path in TRAINING else ()  # to build it in no time
    recipe = load_recipe(arguments(path, tmp_path, *weights(path), *smaller))
    objects = recipe.build()
    adam = objects["optimizer"]([torch.nn.Parameter(torch.zeros(1))])
    assert (type(adam), adam.defaults["weight_decay"], recipe.values["precision"]) == (torch.optim.Adam, 2e-6, "fp32")
    steps = CLIPS // recipe.values["batch_size"]
    schedule, rates = objects["schedule"](steps_per_epoch=steps), {}
    for epoch in range(1, recipe.values["epochs"] + 1):
        for _ in range(steps):
            schedule.on_batch_end(adam)
        schedule.on_epoch_end(adam, epoch, float(epoch))
        rates[epoch] = adam.param_groups[0]["lr"]
    expected = RATES.get(path.stem, HALVED_FROM_104)
    assert max(expected) == len(rates)
    assert {epoch: rates[epoch] for epoch in expected} == pytest.approx(expected, rel=1e-4)


@pytest.fixture(scope="module")
def runs(arguments, tmp_path_factory):
    """The folder below which every published set-up has run a step at a small size, in the order of the rehearsal."""
    folder = tmp_path_factory.mktemp("paper")
    small = SMALL | {"noise_folder": generated_noise(folder / "noise")}
    for path in in_order(FILES):
        changes = (*accepted(path, small), *SMALLER[path.stem], *builds_on(path, folder), *ONE_BATCH)
        run = train_classifier if path in TRAINING else run_interpreter
        run(load_recipe(arguments(path, folder, *changes)))
    return folder


@pytest.fixture(scope="module")
def paper_runs(runs):
    return tables.local_paper_runs(runs)


@pytest.mark.parametrize("path", FILES, ids=name)
def test_a_step_at_a_small_size_gives_the_row_of_a_table(path, runs, paper_runs):
    (metrics,) = (runs / f"paper_{path.stem}").glob("*/**/metrics.json")
    result = json.loads(metrics.read_text())
    assert all(math.isfinite(value) for value in result["metrics"].values() if value is not None)
    if path.stem in USER_STUDY:
        return
    (run,) = paper_runs[path.stem]
    assert run.result == result
    kinds = {paper["contamination"] for paper in PUBLISHED for row in paper["rows"] if row["recipe"] == path.stem}
    assert {condition(result)} == kinds
    shown = tables.published_beside_ours({path.stem: [run]})
    assert f"| `{path.stem}` | ours, seed {result['seed']} | {short_number(result['metrics']['acc'])}" in shown or (
        f"| `{path.stem}` | ours, seed {result['seed']} | {short_number(result['metrics']['fid_i'])}" in shown
    )


def test_what_differs_from_the_published_set_up_is_told(runs):
    told = departures(runs / "paper_lmac_finetuned" / "1234", PAPER / "lmac_finetuned.yaml")
    assert "batch_size: 16 -> 2" in told
    assert "--debug=True" in told
    assert "classifier: num_classes: 50 -> 10" in told
    assert "start_from: batch_size: 16 -> 2" in told
    assert "start_from: classifier: num_classes: 50 -> 10" in told
    assert not [phrase for phrase in told if "folder" in phrase or "seed" in phrase or "experiment" in phrase]
    assert departures(runs / "nothing", PAPER / "vit.yaml") == [f"{runs / 'nothing'} is no run of vit.yaml"]
    first = departures(runs / "paper_focalnet" / "1234", PAPER / "focalnet.yaml")[0]
    assert "microsoft/focalnet-base -> null" in first


def test_a_run_of_a_set_up_as_it_stands_departs_in_nothing(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run/hyperparams.yaml").write_text(load_recipe([str(PAPER / "vit.yaml"), "--seed=7"]).text)
    assert departures(tmp_path / "run", PAPER / "vit.yaml") == []
