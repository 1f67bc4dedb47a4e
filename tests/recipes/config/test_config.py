"""Recipes as files: what is read, what is refused, and in which words."""

import hashlib
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from recipes.config.recipe import Settings, load_recipe
from recipes.config.rules import value_problems
from tests.helpers import refusal

ROOT = Path(__file__).parents[3]
HPARAMS = ROOT / "hparams"
DATA = "--data_folder=somewhere"


def refused(*arguments: object) -> str:
    """The sentence with which a command line is refused."""
    return refusal(load_recipe, [str(argument) for argument in arguments])


@pytest.fixture
def recipe_file(tmp_path):
    """Writes a YAML and returns its path."""

    def write(text: str, name: str = "mine.yaml") -> Path:
        (tmp_path / name).write_text(text, encoding="utf-8")
        return tmp_path / name

    return write


def test_a_misspelt_key_is_one_line_on_stderr_and_exit_code_2():
    command = [sys.executable, "train.py", "hparams/focalnet.yaml", "--data_folder=tests", "--bacth_size=4"]
    found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert found.returncode == 2
    assert found.stdout == ""
    assert found.stderr == "error: hparams/focalnet.yaml has no key 'bacth_size'; did you mean --batch_size?\n"


QUANTILES = "a number in [0, 1] or a list of them, or null (a soft mask)"


@pytest.mark.parametrize(
    ("argument", "nearest"),
    [
        ("--epoch=3", "epochs"),
        ("--data=somewhere", "data_folder"),
        ("--prec=bf16", "precision"),
        ("--tets_only", "test_only"),
        ("--trainfolds=[1]", "train_folds"),
    ],
)
def test_an_unknown_or_shortened_key_names_the_nearest_one(argument, nearest):
    key = argument[2:].partition("=")[0]
    path = HPARAMS / "focalnet.yaml"
    assert refused(path, DATA, argument) == f"{path} has no key {key!r}; did you mean --{nearest}?"


def test_a_key_like_no_other_lists_the_known_ones_and_two_are_told_together():
    told = refused(HPARAMS / "focalnet.yaml", DATA, "--zzzzzz=1", "--epoch=2")
    assert "has no key 'zzzzzz'; known keys: seed, experiment, output_folder, data_folder" in told
    assert told.endswith("has no key 'epoch'; did you mean --epochs?")


def test_a_missing_recipe_names_the_nearest_file():
    told = refused(HPARAMS / "focal_net.yaml")
    assert told == f"no recipe {HPARAMS / 'focal_net.yaml'}; did you mean {HPARAMS / 'focalnet.yaml'}?"
    assert refused("nowhere/x.yaml") == (
        "no recipe nowhere/x.yaml; `python train.py --list` and `python interpret.py --list` name all"
    )


def test_without_a_recipe_the_first_argument_is_asked_for():
    told = "the first argument must be a recipe, such as hparams/focalnet.yaml"
    assert refused() == told
    assert refused(DATA) == told


def test_an_argument_without_dashes_is_refused():
    assert refused(HPARAMS / "vit.yaml", "batch_size=4") == "'batch_size=4' is not of the form --key=value"


def test_an_unset_placeholder_is_named(recipe_file):
    told = refused(recipe_file(f"extends: {HPARAMS / 'focalnet.yaml'}\nepochs: !PLACEHOLDER\n"), DATA)
    assert "'epochs' is a !PLACEHOLDER and must be replaced" in told
    assert told.endswith("set it on the command line or in the YAML")


@pytest.mark.parametrize(
    ("name", "argument", "told"),
    [
        ("modulation", "--quantile=1.5", f"quantile=1.5 must be {QUANTILES}"),
        ("modulation", "--quantile=[0.5,-0.1]", f"quantile=[0.5, -0.1] must be {QUANTILES}"),
        ("modulation", "--quantile=[]", f"quantile=[] must be {QUANTILES}"),
        ("lmac_td", "--alpha=1.5", "alpha=1.5 must be a number in [0, 1]"),
        ("focalnet", "--margin=-0.1", "margin=-0.1 must be a number in [0, 1]"),
        ("focalnet", "--epochs=2.5", "epochs=2.5 must be a whole number of 1 or more"),
        ("focalnet", "--batch_size=true", "batch_size=True must be a whole number of 1 or more"),
        ("focalnet", "--grad_accumulation_factor=0", "grad_accumulation_factor=0 must be a whole number of 1 or more"),
        ("modulation", "--eval_batch_size=0", "eval_batch_size=0 must be a whole number of 1 or more"),
        ("focalnet", "--precision=fp8", "precision='fp8' must be auto, fp32, bf16 or fp16"),
        ("focalnet", "--seed=-1", "seed=-1 must be a whole number from 0 to 2147483648"),
        ("focalnet", "--experiment=a/b", "experiment='a/b' must be a name without '/'"),
        ("focalnet", "--experiment=..", "experiment='..' must be a name without '/'"),
        ("focalnet", "--folds=some", "folds='some' must be null (the three lists) or 'all' (cross-validation)"),
        ("focalnet", "--train_folds=3", "train_folds=3 must be a list of fold numbers"),
        ("focalnet", "--subset=esc20", "subset='esc20' must be null or 'esc10'"),
        ("focalnet", "--num_classes=1", "num_classes=1 must be a whole number of 2 or more"),
        ("vit_scratch", "--peak_lr=0", "peak_lr=0 must be a number above 0"),
        ("modulation", "--classifier=", "classifier=None must be a path"),
    ],
)
def test_a_value_out_of_range_is_refused_with_what_is_allowed(name, argument, told):
    path = HPARAMS / f"{name}.yaml"
    assert refused(path, DATA, argument) == f"{path}: {told}"


def test_an_empty_data_folder_is_refused():
    assert refused(HPARAMS / "vit.yaml", "--data_folder=").endswith("data_folder=None must be a path")


def test_overlapping_folds_are_refused_unless_every_fold_takes_its_turn():
    path = HPARAMS / "focalnet.yaml"
    told = refused(path, DATA, "--valid_folds=[3,4]", "--test_folds=[4,2]")
    assert told == (
        f"{path}: train_folds and valid_folds share fold 3; they must be disjoint; "
        "train_folds and test_folds share fold 2; they must be disjoint; "
        "valid_folds and test_folds share fold 4; they must be disjoint"
    )
    assert load_recipe([str(path), DATA, "--valid_folds=[3]", "--folds=all"]).values["folds"] == "all"


def test_several_problems_are_listed_at_once():
    path = HPARAMS / "focalnet.yaml"
    assert refused(path, DATA, "--epochs=0", "--margin=2", "--seed=x") == (
        f"{path}: seed='x' must be a whole number from 0 to 2147483648; epochs=0 must be a whole number of 1 or more; "
        "margin=2 must be a number in [0, 1]"
    )


def test_values_without_a_rule_pass():
    assert value_problems({"anything": object()}) == []


def test_values_are_read_as_yaml_1_2_and_kept_whole():
    recipe = load_recipe(
        [str(HPARAMS / "vit_scratch.yaml"), "--data_folder=/a=b", "--peak_lr=1e-3", "--experiment", "on"]
    )
    assert (recipe.values["data_folder"], recipe.values["peak_lr"]) == ("/a=b", 1e-3)
    assert recipe.values["experiment"] == "on"
    assert recipe.build()["schedule"].keywords["peak_lr"] == 1e-3


def test_a_list_may_be_split_by_the_shell():
    recipe = load_recipe([str(HPARAMS / "modulation.yaml"), "--quantile=[0.5,", "0.9]"])
    assert recipe.values["quantile"] == [0.5, 0.9]


def test_run_options_that_a_recipe_also_holds_are_kept_with_it():
    recipe = load_recipe([str(HPARAMS / "focalnet.yaml"), DATA, "--precision=bf16", "--debug", "--device=cpu"])
    assert "precision: bf16" in recipe.text
    assert (recipe.run_opts.debug, recipe.run_opts.device) == (True, "cpu")
    assert recipe.run_opts.overridden_args == {"debug", "device"}


def test_the_hash_is_the_resolved_texts_and_follows_every_value():
    recipes = [load_recipe([str(HPARAMS / "vit.yaml"), DATA, f"--epochs={epochs}"]) for epochs in (3, 3, 4)]
    assert recipes[0].sha256 == recipes[1].sha256 == hashlib.sha256(recipes[0].text.encode()).hexdigest()
    assert recipes[0].sha256 != recipes[2].sha256
    assert "!ref" not in recipes[0].text
    assert "!include" not in recipes[0].text


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("seed: [1", "is not valid YAML"),
        ("seed: 1\nseed: 2\n", "is not valid YAML"),
        ("- 1\n", "must hold keys with values, not list"),
        ("", "must hold keys with values, not NoneType"),
        ("model: !include:nowhere.yaml\n", "nowhere.yaml"),
    ],
)
def test_a_broken_file_is_named(recipe_file, text, told):
    path = recipe_file(text)
    found = refused(path)
    assert found.startswith(str(path))
    assert told in found
    assert "\n" not in found


def test_extends_changes_plain_keys_of_another_recipe_and_the_command_line_has_the_last_word():
    base, one = (HPARAMS / name for name in ("lmac.yaml", "lmac_focalnet.yaml"))
    written = yaml.safe_load(one.read_text())
    recipe = load_recipe([str(one), DATA, "--experiment=mine"])
    assert recipe.path == one
    assert "extends" not in recipe.values
    assert recipe.values["experiment"] == "mine"
    assert recipe.values["classifier"] == written["classifier"]
    extended = load_recipe([str(base), DATA]).values
    assert {key for key in extended if extended[key] != recipe.values[key]} == {"experiment", "classifier"}


def test_extends_refuses_an_unknown_key_and_a_missing_recipe(recipe_file):
    assert refused(HPARAMS / "lmac_focalnet.yaml", "--epoch=1").endswith("has no key 'epoch'; did you mean --epochs?")
    recipe_file("seed: 1\nepochs: 2\n", "base.yaml")
    path = recipe_file("extends: base.yaml\nepoch: 3\n")
    assert refused(path) == f"{path}: nothing uses the key 'epoch'; did you mean epochs?"
    path = recipe_file("extends: bsae.yaml\n")
    assert refused(path).endswith(f"did you mean {path.parent / 'base.yaml'}?")


def test_extends_reads_numbers_as_the_base_does(recipe_file):
    schedule = "schedule: !name:recipes.training.schedules.WarmupCosine\n  peak_lr: !ref <peak_lr>\n"
    recipe_file(f"seed: 1\npeak_lr: 1e-3\n{schedule}", "base.yaml")
    recipe = load_recipe([str(recipe_file("extends: base.yaml\npeak_lr: 2e-3\n"))])
    assert recipe.build()["schedule"].keywords["peak_lr"] == recipe.values["peak_lr"] == 2e-3


def test_a_block_stands_alone_and_forgets_every_path_to_weights():
    recipe = load_recipe([str(HPARAMS / "vit.yaml"), DATA, "--weights=some/folder", "--num_classes=7"])
    block = recipe.block("model")
    assert "some/folder" in recipe.text
    assert "some/folder" not in block
    assert re.findall(r"weights:(.*)", block) == ["", ""]
    assert "num_classes: 7" in block
    # the recipe itself still has them
    assert recipe.values["weights"] == "some/folder"


def test_settings_remember_what_was_read():
    settings = Settings({"a": 1, "b": 2})
    assert settings["a"] == 1
    assert "b" in settings
    assert settings.read == {"a"}
