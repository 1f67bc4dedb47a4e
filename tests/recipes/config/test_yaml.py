"""Every YAML under hparams is built, runs a step through the code of train.py or interpret.py, and has no dead key."""

import dataclasses
import json
import math
import re
from pathlib import Path

import pytest
import torch
from recipe_files import HPARAMS, KINDS

from models.bundle import build_trusted, load_bundle
from models.classifier import ClassifierInfo
from recipes.classification import train_classifier
from recipes.config.compose import compose, full_name, referenced, resolve
from recipes.config.recipe import Recipe, Settings, load_recipe
from recipes.config.yaml_text import parse, tag_of, write_tree
from recipes.data.augmentation import TrainingClips
from recipes.interpretation import run_interpreter
from recipes.training.losses import classifier_loss

FILES = sorted(HPARAMS.rglob("*.yaml"))
RECIPES = [path for path in FILES if path.parent == HPARAMS]
TEXT = {path: path.read_text(encoding="utf-8") for path in FILES}
DRAFTS = {path: compose(path) for path in RECIPES}
TRAINING = [path for path in RECIPES if "model" in DRAFTS[path].tree]
INTERPRETING = [path for path in RECIPES if "interpreter" in DRAFTS[path].tree]
CHOOSING_AN_EPOCH = {"mask_clips", "patience"}  # inherited, and unread, where a recipe has no epochs to choose from
STEP = ("--batch_size=2", "--debug", "--debug_batches=1", "--debug_epochs=1")
# what makes a recipe small enough for a test; its size as written is built, and trained a step, further below
SMALLER = {
    "focalnet": ("--size=nano",),
    "focalnet_base_scratch": ("--size=nano",),
    "vit": ("--size=nano",),
    "vit_base_scratch": ("--size=nano",),
    "focalnet_projection": ("--size=nano",),
    "vit_projection": ("--size=nano",),
    "mobilenet_mn10": ("--size=mn04",),
    "beats": ("--size=nano",),
    "passt": ("--size=nano",),
    "cnn14": ("--width=0.0625",),
    "cnn14_scratch": ("--width=0.0625",),
    "conv2d": ("--channels=16",),
    "lmac_td": ("--filters=128", "--kernel=64", "--width=16", "--layers=1", "--chunk=50", "--intra_layers=1"),
    "piq_focalnet": ("--channels=16",),
    "piq_focalnet_small": ("--channels=16",),
    "piq_vit": ("--channels=16",),
    "piq_cnn14": ("--channels=16",),
    "piq_conv2d": ("--channels=16",),
    "l2i_conv2d": ("--components=10", "--rounds=1"),
}
# maps of the classifiers at the size that the recipes name
MAPS = {
    "focalnet": (128, 256, 512, 1024),
    "focalnet_scratch": (24, 48, 96, 192),
    "focalnet_base_scratch": (128, 256, 512, 1024),
    "vit": (768,) * 4,
    "vit_base_scratch": (768,) * 4,
    "vit_scratch": (48,) * 4,
    "cnn14": (256, 512, 1024, 2048),
    "cnn14_scratch": (64, 128, 256, 512),
    "conv2d": (256, 256, 256, 256),
    "mobilenet": (16, 16, 48, 384),
    "ast": (768,) * 4,
    "clap": (96, 192, 384, 768),
}
READ_BY_RECIPES = {
    "classifiers": {"classifier"},
    "interpreters": {"interpreter"},
}
OFFERS = frozenset({"maps", "native_map", "gradient", "prompts"})


def name(path: Path) -> str:
    return path.stem


def weights(path: Path) -> tuple[str, ...]:
    """No recipe may look for a hub in a test."""
    expanded = DRAFTS[path].expanded()
    known = "weights" in expanded or full_name("weights", expanded) == "model.weights"
    return ("--weights=null",) if known else ()


class Watched(Settings):
    """Built or plain values that all remember in one set which keys were read."""

    def __init__(self, values, read: set[str]):
        super().__init__(values)
        self.read = read

    def get(self, key, default=None):
        self.read.add(key)
        return super().get(key, default)


@pytest.fixture
def watch(monkeypatch):
    """(recipe) -> the recipe, and the keys that a run of it reads."""
    build = Recipe.build
    read: set[str] = set()
    monkeypatch.setattr(Recipe, "build", lambda self: Watched(build(self), read))
    return lambda recipe: (dataclasses.replace(recipe, values=Watched(recipe.values, read)), read)


def dead(recipe: Recipe, read: set[str]) -> set[str]:
    return set(parse(recipe.text, recipe.path)) - read - referenced(DRAFTS[recipe.path].tree)


def test_every_recipe_trains_or_interprets():
    assert len(TRAINING) >= 8
    assert len(INTERPRETING) >= 16
    assert sorted(TRAINING + INTERPRETING) == RECIPES
    assert {path.parent.name for path in FILES} == {"hparams", "classifiers", "interpreters", "common", "paper"}
    assert len(FILES) >= 36
    assert set(SMALLER) <= set(map(name, RECIPES))


@pytest.mark.parametrize("path", TRAINING, ids=name)
def test_a_training_recipe_takes_a_step_and_reads_every_key(path, arguments, watch, tiny_ast, tiny_clap, tmp_path):
    from_a_hub = {
        "ast": (f"--weights={tiny_ast}",),
        "ast_long": (f"--weights={tiny_ast}",),
        "clap": (f"--weights={tiny_clap}", "--epochs=1"),
    }
    loaded = from_a_hub.get(path.stem, weights(path))
    changes = ("--num_classes=10", "--clip_seconds=1.0", *loaded, *SMALLER.get(path.stem, ()))
    recipe, read = watch(load_recipe(arguments(path, tmp_path, *STEP, *changes)))
    folder = train_classifier(recipe)
    assert dead(recipe, read) == set()
    assert folder == tmp_path / path.stem / "1234"
    facts = json.loads((folder / "metrics.json").read_text())
    assert facts["training"]["epoch"] == 1
    quality = "acc" if recipe.values["loss"] != "binary_cross_entropy" else "map"
    assert 0 <= facts["metrics"][quality] <= 1
    losses = re.findall(r"loss: (\S+?)[,\s]", (folder / "train_log.txt").read_text() + " ")
    assert len(losses) == 2
    assert all(math.isfinite(float(loss)) for loss in losses)
    # the block stands alone: what the run saved is built again from what it says
    assert load_bundle(folder / "classifier", "classifier").network.describe().num_classes == 10


@pytest.mark.parametrize("path", INTERPRETING, ids=name)
def test_an_interpreting_recipe_takes_a_step_and_reads_every_key(path, arguments, interpret, bundle, watch, tmp_path):
    plain = load_recipe(arguments(path, tmp_path)).values
    trained_by = Path(plain["classifier"]).parts[-3]
    classifier = f"--classifier={bundle(trained_by.removesuffix('_scratch'))}"
    changes = (classifier, "--report_clips=0", *SMALLER.get(path.stem, ()))
    if "epochs" in plain:
        changes += STEP
    else:
        changes += ("--debug", "--debug_batches=1", "--eval_batch_size=2")
    if "reference" in plain:
        reference = HPARAMS / f"{Path(plain['reference']).parts[-2]}.yaml"
        changes += (f"--reference={interpret(reference, tmp_path, classifier, '--report_clips=0', *STEP)}",)
    if plain.get("start_from"):
        start = HPARAMS / f"{Path(plain['start_from']).parts[-2]}.yaml"
        changes += (f"--start_from={interpret(start, tmp_path, classifier, '--report_clips=0', *STEP)}",)
    recipe, read = watch(load_recipe(arguments(path, tmp_path, *changes)))
    folder = run_interpreter(recipe)
    unread = CHOOSING_AN_EPOCH if plain.get("epochs") == 0 else set()
    assert dead(recipe, read) == unread
    assert folder == tmp_path / path.stem / "1234"
    facts = json.loads((folder / "metrics.json").read_text())
    assert all(math.isfinite(facts["metrics"][score]) for score in ("fid_i", "fa", "ai", "ad", "ag", "kept"))
    assert load_bundle(folder / "interpreter", "interpreter", info=load_bundle(
        folder / "classifier", "classifier").network.describe())  # fmt: skip


@pytest.mark.parametrize("path", INTERPRETING, ids=name)
def test_an_interpreting_recipe_names_a_classifier_that_a_recipe_makes(path, arguments, tmp_path):
    values = load_recipe(arguments(path, tmp_path)).values
    output, experiment, seed, folder = Path(values["classifier"]).parts
    assert (output, seed, folder) == ("results", "1234", "classifier")
    made = load_recipe(arguments(HPARAMS / f"{experiment}.yaml", tmp_path, *weights(HPARAMS / f"{experiment}.yaml")))
    assert (made.values["experiment"], made.values["seed"]) == (experiment, 1234)
    assert experiment.removesuffix("_scratch") in KINDS
    assert values["experiment"] == path.stem


@pytest.mark.parametrize("path", [path for path in TRAINING if path.stem in SMALLER], ids=name)
def test_a_large_classifier_trains_a_step_at_its_own_size(path, arguments, tmp_path):
    recipe = load_recipe(arguments(path, tmp_path, "--num_classes=50", "--clip_seconds=1.0", *weights(path)))
    settings = recipe.build()
    classifier = settings["model"]["classifier"].train()
    clips = TrainingClips(torch.rand(2, 16000) - 0.5, torch.eye(50)[:2])
    clips = settings["augmentation"]["augmentation"](clips)
    logits = classifier(classifier.frontend.analyze(clips.waveform)).logits
    assert logits.shape == (2, 50)
    classifier_loss(recipe.values, classifier)(logits, clips.target).backward()
    gradients = [parameter.grad for parameter in classifier.parameters()]
    assert sum(gradient is None for gradient in gradients) <= len(gradients) // 10
    assert all(gradient.isfinite().all() for gradient in gradients if gradient is not None)


# a control that matches a reference has the reference's size
@pytest.mark.parametrize("path", [path for path in INTERPRETING if "reference" not in DRAFTS[path].tree], ids=name)
def test_an_interpreter_is_built_at_its_own_size(path, arguments, tmp_path):
    recipe = load_recipe(arguments(path, tmp_path))
    channels = MAPS[Path(recipe.values["classifier"]).parts[-3]]
    # shapes without memory: the largest has 237M parameters
    with torch.device("meta"):
        interpreter = recipe.build()["interpreter"]["interpreter"](
            info=ClassifierInfo(50, 16000, 1024, channels, OFFERS, 30.0, prompt_size=512)
        )
    count = sum(parameter.numel() for parameter in interpreter.parameters())
    assert (count > 0) == interpreter.trainable


@pytest.mark.parametrize("path", [path for path in FILES if path.parent.name in READ_BY_RECIPES], ids=name)
def test_a_block_has_no_dead_key_stands_alone_and_is_included_by_a_recipe(path):
    draft = compose(path)
    keys = set(draft.tree)
    assert keys - referenced(draft.tree) <= READ_BY_RECIPES[path.parent.name] <= keys
    included = {tag_of(node) for recipe in RECIPES for node in DRAFTS[recipe].tree.values()}
    assert f"include:{path}" in included
    # a bundle may hold it
    if path.parent.name == "interpreters":
        assert "interpreter" in build_trusted(write_tree(resolve(draft)), path)


@pytest.mark.parametrize("path", [path for path in FILES if path.parent.name == "common"], ids=name)
def test_what_recipes_share_is_used_by_one(path):
    uses = re.compile(rf"(extends:|!include:).*\b{path.name}")
    assert any(uses.search(text) for file, text in TEXT.items() if file != path)


def test_no_block_is_named_as_a_recipe_and_no_recipe_is_long():
    recipes = [*RECIPES, *HPARAMS.glob("paper/*.yaml")]
    blocks = {path.stem for path in FILES if path not in recipes}
    assert blocks.isdisjoint(path.stem for path in recipes)
    lines = {path: TEXT[path].count("\n") for path in recipes}
    assert {recipe: count for recipe, count in lines.items() if count > 25} == {}


def test_a_setting_is_explained_where_it_is_written_first():
    """What recipes share is explained once, in hparams/common, and not again in each of them; blocks stand alone."""
    files_by_comment: dict[str, list[str]] = {}
    for path in FILES:
        if path.parent.name in ("hparams", "common"):
            for comment in re.findall(r"^[\w.]+: .*?  # (.+)$", TEXT[path], re.M):
                files_by_comment.setdefault(comment, []).append(path.name)
    assert {comment: files for comment, files in files_by_comment.items() if len(files) > 3} == {}


def test_a_dead_key_is_found(arguments, watch, tmp_path):
    recipe, read = watch(load_recipe(arguments(HPARAMS / "modulation.yaml", tmp_path)))
    assert {"seed", "classifier", "report_clips"} <= dead(recipe, read)
    assert "quantile" not in dead(recipe, read)
    assert recipe.values["seed"] == 1234
    assert "seed" not in dead(recipe, read)
