"""What controls and L2I ask of a run: a reference of the same classifier and fold, and a dictionary learned once."""

import csv
import json
from pathlib import Path

import pytest
import speechbrain as sb
import torch
from recipe_files import HPARAMS
from safetensors.torch import load_file

from interpreters.l2i import L2I
from models.bundle import load_bundle
from models.errors import UsageError
from recipes.config.recipe import load_recipe
from recipes.runs.places import run_folder
from recipes.runs.subject import find_reference
from recipes.training.interpreter_brain import InterpreterBrain

L2I_RECIPE, MATCHED, GRADIENT = (HPARAMS / f"{name}.yaml" for name in ("l2i", "control_matched", "gradient"))
SHORT = ("--report_clips=0", "--epochs=2", "--batch_size=10", "--precision=fp32", "--components=8", "--debug",
         "--debug_batches=2", "--debug_persistently")  # fmt: skip


def table(run: Path) -> list[dict[str, str]]:
    with (run / "clips.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def metrics(run: Path) -> dict:
    return json.loads((run / "metrics.json").read_text())["metrics"]


@pytest.fixture(scope="module")
def cnn14(bundle) -> str:
    return f"--classifier={bundle('cnn14')}"


@pytest.fixture(scope="module")
def l2i(interpret, cnn14, tmp_path_factory) -> Path:
    """L2I of eight components, trained for two epochs of two steps."""
    return interpret(L2I_RECIPE, tmp_path_factory.mktemp("l2i"), cnn14, *SHORT)


@pytest.fixture
def fits(monkeypatch) -> list[int]:
    """How many clips every dictionary was learned from, one number for each time."""
    counts: list[int] = []
    fit = L2I.fit

    def counted(self, spectrograms):
        batches = list(spectrograms)
        counts.append(sum(map(len, batches)))
        fit(self, batches)

    monkeypatch.setattr(L2I, "fit", counted)
    return counts


def test_an_interrupted_l2i_keeps_its_dictionary_and_ends_to_the_bit(
    l2i, fits, interpret, cnn14, tmp_path, monkeypatch
):
    start = InterpreterBrain.on_stage_start

    def cut(self, stage, epoch=None):
        if (stage, epoch) == (sb.Stage.TRAIN, 2):
            raise KeyboardInterrupt
        start(self, stage, epoch)

    with monkeypatch.context() as patch:
        patch.setattr(InterpreterBrain, "on_stage_start", cut)
        with pytest.raises(KeyboardInterrupt):
            interpret(L2I_RECIPE, tmp_path, cnn14, *SHORT)
    # the training folds whole, whatever the run's own limit on batches
    assert fits == [60]
    resumed = interpret(L2I_RECIPE, tmp_path, cnn14, *SHORT)
    assert fits == [60]
    weights = [(run / "interpreter/weights.safetensors").read_bytes() for run in (l2i, resumed)]
    assert weights[0] == weights[1]
    assert metrics(resumed) == metrics(l2i)
    assert load_file(l2i / "interpreter/weights.safetensors")["dictionary"].isfinite().all()


def test_a_second_training_starts_from_the_firsts_dictionary(l2i, fits, interpret, cnn14, tmp_path):
    run = interpret(L2I_RECIPE, tmp_path, cnn14, f"--start_from={l2i}", *SHORT)
    assert fits == []
    first, second = (load_file(one / "interpreter/weights.safetensors") for one in (l2i, run))
    assert torch.equal(first["dictionary"], second["dictionary"])
    assert not torch.equal(first["theta.weight"], second["theta.weight"])


@pytest.mark.parametrize("order", ["loudest", "random"])
def test_a_matched_control_differs_from_its_reference_in_the_place_alone(order, l2i, interpret, cnn14, tmp_path):
    changes = ("--debug", "--debug_batches=2", "--report_clips=0", "--eval_batch_size=16")
    run = interpret(MATCHED, tmp_path, cnn14, f"--reference={l2i}", f"--order={order}", *changes)
    theirs, ours = table(l2i), table(run)
    assert [row["id"] for row in ours] == [row["id"] for row in theirs]
    for score in ("kept", "sps", "comp"):
        expected = [float(row[score]) for row in theirs]
        assert [float(row[score]) for row in ours] == pytest.approx(expected, abs=1e-4, nan_ok=True)
    assert [row["ad"] for row in ours] != [row["ad"] for row in theirs]


def test_a_matched_controls_bundle_holds_its_reference(l2i, interpret, cnn14, bundle, tmp_path):
    changes = ("--debug", "--debug_batches=1", "--report_clips=0")
    run = interpret(MATCHED, tmp_path, cnn14, f"--reference={l2i}", *changes)
    classifier = load_bundle(bundle("cnn14"), "classifier").network.freeze()
    control = load_bundle(run / "interpreter", "interpreter", info=classifier.describe()).network
    weights = load_file(l2i / "interpreter/weights.safetensors")
    assert all(torch.equal(value, weights[name]) for name, value in control.reference.state_dict().items())
    assert isinstance(control.reference, L2I) and control.reference.dictionary.shape == (513, 8)


def test_a_quantile_map_may_be_a_reference_too(interpret, cnn14, tmp_path):
    changes = ("--debug", "--debug_batches=1", "--report_clips=0")
    reference = interpret(GRADIENT, tmp_path, cnn14, "--quantile=0.75", *changes)
    run = interpret(MATCHED, tmp_path, cnn14, f"--reference={reference}", *changes)
    assert metrics(run)["kept"] == pytest.approx(metrics(reference)["kept"], abs=1e-6)
    assert metrics(reference)["kept"] == pytest.approx(0.25, abs=0.05)


def test_a_missing_reference_names_the_command_that_makes_it(interpret, cnn14, tmp_path):
    with pytest.raises(UsageError) as caught:
        interpret(MATCHED, tmp_path, cnn14, f"--reference={tmp_path / 'piq_vit/1234'}")
    assert str(caught.value) == (
        f"no interpreter at {tmp_path / 'piq_vit/1234/interpreter'} to match: run `python interpret.py "
        "hparams/piq_vit.yaml`, or pass --reference=path/to/a/run"
    )
    assert not (tmp_path / "control_matched").exists()


def test_a_reference_of_another_classifier_is_refused(l2i, interpret, bundle, tmp_path):
    with pytest.raises(UsageError, match=r"was trained for another classifier than .*: use that, or retrain"):
        interpret(MATCHED, tmp_path, f"--classifier={bundle('vit')}", f"--reference={l2i}", "--report_clips=0")


def test_in_cross_validation_a_fold_has_its_own_reference(arguments, cnn14, tmp_path):
    recipe = load_recipe(arguments(MATCHED, tmp_path, cnn14, f"--reference={tmp_path / 'lmac/1234'}"))
    made = tmp_path / "lmac/1234/fold2/interpreter"
    made.mkdir(parents=True)
    (made / "bundle.json").touch()
    assert find_reference(recipe.values, run_folder(recipe.values, 1)) == made.parent
    with pytest.raises(
        UsageError, match=r"1234/fold1/interpreter to match: run `python interpret\.py hparams/lmac\.yaml`"
    ):
        find_reference(recipe.values, run_folder(recipe.values, 0))
    assert find_reference(load_recipe(arguments(GRADIENT, tmp_path, cnn14)).values, tmp_path) is None
