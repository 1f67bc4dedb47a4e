"""What `interpret.py` looks for before anything slow: sentences that name what is there and the line to type."""

import os
from pathlib import Path

import pytest
from recipe_files import HPARAMS

from models.errors import UsageError
from recipes.config.recipe import load_recipe
from recipes.runs.required import REQUIRED, REQUIRED_TO_TRAIN, fitting_classifiers, require_classifier


@pytest.fixture
def results(tmp_path) -> Path:
    """A results folder of three classifiers, cnn14 the oldest, and of an interpreter's run with a copy of one."""
    for age, (name, tag) in enumerate(
        (("vit", "models.vit.ViT"), ("focalnet", "models.focalnet.FocalNet"), ("cnn14", "models.cnn14.CNN14"))
    ):
        folder = tmp_path / name / "1234" / "classifier"
        folder.mkdir(parents=True)
        (folder / "bundle.json").write_text("{}")
        (folder / "model.yaml").write_text(f"classifier: !new:{tag}\n  head: !name:torch.nn.Linear\n")
        os.utime(folder / "bundle.json", (1e9 - age, 1e9 - age))
    for kind in ("classifier", "interpreter"):
        (tmp_path / "lmac" / "1234" / kind).mkdir(parents=True)
        (tmp_path / "lmac" / "1234" / kind / "bundle.json").write_text("{}")
    return tmp_path


def told(recipe: str, *changes: str) -> str:
    with pytest.raises(UsageError) as caught:
        load_recipe([str(HPARAMS / f"{recipe}.yaml"), "--data_folder=/", *changes], REQUIRED)
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


def told_by_training(*arguments: str) -> str:
    with pytest.raises(UsageError) as caught:
        load_recipe([str(HPARAMS / arguments[0]), *arguments[1:]], REQUIRED_TO_TRAIN, "train.py")
    return str(caught.value)


def test_a_missing_data_folder_is_told_with_the_ways_on(tmp_path, monkeypatch):
    monkeypatch.setenv("EARWITNESS_DATA", str(tmp_path / "gone"))
    expected = (
        f"data_folder={tmp_path / 'gone'} is not there: give the path of a folder laid out like ESC-50, with "
        "--data_folder or in the environment variable EARWITNESS_DATA; to download ESC-50 (600 MB) to that path, pass "
        "--download, or make the folder and leave it empty"
    )
    assert told_by_training("cnn14.yaml") == expected
    assert load_recipe([str(HPARAMS / "cnn14.yaml"), "--download"], REQUIRED_TO_TRAIN).values["download"]
    (tmp_path / "gone").mkdir()
    assert load_recipe([str(HPARAMS / "cnn14.yaml")], REQUIRED_TO_TRAIN).values["data_folder"] == str(tmp_path / "gone")


def test_the_data_folder_is_set_once_for_all_recipes_or_said_on_the_line(monkeypatch):
    for recipe in ("cnn14", "lmac", "grad_cam"):
        monkeypatch.delenv("EARWITNESS_DATA", raising=False)
        assert load_recipe([str(HPARAMS / f"{recipe}.yaml")]).values["data_folder"] == "data/ESC-50"
        monkeypatch.setenv("EARWITNESS_DATA", "/my sounds #2")
        recipe_now = load_recipe([str(HPARAMS / f"{recipe}.yaml")])
        assert recipe_now.values["data_folder"] == "/my sounds #2"
        line = load_recipe([str(HPARAMS / f"{recipe}.yaml"), "--data_folder=other"])
        assert line.values["data_folder"] == "other"
    assert load_recipe([str(HPARAMS / "demo_focalnet.yaml")]).values["data_folder"] == "results/synthetic"


def test_missing_weights_are_told_with_the_line_that_fetches_them(tmp_path):
    told = told_by_training("mobilenet.yaml", "--data_folder=/")
    assert told == (
        "weights=data/mn04_as_mAP_432.pt is not there: fetch it with `curl --create-dirs -fLo data/mn04_as_mAP_432.pt "
        "https://github.com/fschmid56/EfficientAT/releases/download/v0.0.1/mn04_as_mAP_432.pt` (4 MB), or pass "
        "--weights=null to train from scratch"
    )
    other = told_by_training("mobilenet.yaml", "--data_folder=/", f"--weights={tmp_path}/mine.pt")
    assert other.startswith(f"weights={tmp_path}/mine.pt is not there: give the path of the file, or pass")


def test_noise_that_training_needs_is_looked_for_first(tmp_path):
    paper = told_by_training("paper/cnn14.yaml", "--data_folder=/", "--weights=null", f"--noise_folder={tmp_path}/no")
    assert paper == f"noise_folder={tmp_path}/no is not a folder: give the path of a folder of sound files"
    weights = told_by_training("paper/cnn14.yaml", "--data_folder=/", "--train_noise=clean")
    assert "curl --create-dirs -fLo data/cnn14_vggsound.ckpt https://huggingface.co/speechbrain/cnn14-esc50/" in weights


def test_a_misspelt_key_hides_no_other_problem_and_makes_up_none(tmp_path, monkeypatch):
    monkeypatch.setenv("EARWITNESS_DATA", str(tmp_path))
    assert told_by_training("cnn14.yaml", "--epoch=3").endswith("has no key 'epoch'; did you mean --epochs?")
    monkeypatch.setenv("EARWITNESS_DATA", str(tmp_path / "gone"))
    assert f"data_folder={tmp_path / 'gone'} is not there" in told_by_training("cnn14.yaml", "--epoch=3")
    (tmp_path / "mine.yaml").write_text(f"extends: {HPARAMS / 'lmac.yaml'}\nclassifier: !PLACEHOLDER\n")
    unset = told(str(tmp_path / "mine"))
    assert unset == (
        f"{tmp_path / 'mine.yaml'}: 'classifier' is a !PLACEHOLDER and must be replaced; set it on the command line or "
        "in the YAML"
    )


def test_a_sound_is_explained_at_one_quantile(results, tmp_path):
    (tmp_path / "x.wav").write_bytes(b"RIFF")
    line = ("modulation", f"--classifier={results / 'focalnet/1234/classifier'}", f"--audio={tmp_path / 'x.wav'}")
    assert told(*line, "--quantile=[0.5,0.9]") == (
        "quantile=[0.5, 0.9]: a sound is explained at one, such as quantile=0.5"
    )


def asked(results: Path, recipe: str, classifier: str, *changes: str) -> str:
    """The sentence for a question about a sound to a classifier of `results`."""
    (results / "x.wav").touch()
    changes = (f"--audio={results / 'x.wav'}", f"--classifier={results / classifier / '1234/classifier'}", *changes)
    return told(recipe, f"--output_folder={results}", *changes)


def test_an_unknown_class_is_told_before_anything_is_loaded(results):
    (results / "vit/1234/classifier/bundle.json").write_text('{"class_names": ["rain", "rooster"]}')
    expected = "target='roster' is no class of this classifier, nor an index from 0 to 1; did you mean rooster?"
    assert asked(results, "grad_cam", "vit", "--target=roster").endswith(expected)


def test_a_sound_for_an_interpreter_that_is_not_trained_is_told_before_anything_is_loaded(results):
    folder = results / "lmac_vit/1234/interpreter"
    expected = f"no trained interpreter at {folder}: first train it, by the same command without --audio"
    assert asked(results, "lmac_vit", "vit").endswith(expected)


def test_a_classifier_without_the_map_that_a_method_shows_is_told_with_one_that_has_it(results):
    path, fitting = results / "cnn14/1234/classifier", results / "focalnet/1234/classifier"
    assert asked(results, "modulation", "cnn14").endswith(
        f"{path} has no modulation of its own to show: pass --classifier={fitting}, or a method that fits every "
        "classifier, such as hparams/grad_cam.yaml or hparams/lime.yaml"
    )
    (path / "model.yaml").write_text("classifier: !new:my_module.Mine\n")
    (results / "x.wav").touch()
    line = [f"--audio={results / 'x.wav'}", f"--classifier={path}", "--data_folder=/"]
    assert load_recipe([str(HPARAMS / "modulation.yaml"), *line], REQUIRED).values["map"] == "modulation"


def test_masks_are_scored_within_an_epoch_on_some_clips_only():
    told_of = told("lmac", "--classifier=/", "--mask_steps=50")
    assert "mask_steps=50 scores the masks of no clips: pass --mask_clips=100 too" in told_of


def test_a_sound_needs_no_run_that_training_started_from(results):
    for kind in ("classifier", "interpreter"):
        bundle = results / "amortized_finished" / "1234" / kind
        bundle.mkdir(parents=True)
        (bundle / "bundle.json").write_text("{}")
    (results / "amortized_finished/1234/classifier/model.yaml").write_text("classifier: !new:models.cnn14.CNN14\n")
    sound = results / "siren.wav"
    sound.touch()
    place = (f"--output_folder={results}", f"--classifier={results / 'cnn14/1234/classifier'}")
    assert "start_from=results/amortized_mobilenet/1234 is no run" in told("amortized_finished", *place)
    arguments = [str(HPARAMS / "amortized_finished.yaml"), *place, f"--audio={sound}"]
    assert load_recipe(arguments, REQUIRED).values["audio"] == str(sound)


def test_a_release_that_training_would_begin_with_is_looked_for_first(results):
    place = (f"--output_folder={results}", f"--classifier={results / 'cnn14/1234/classifier'}", "--train_noise=clean")
    sentence = told("paper/l2i", *place, "--interpreter.dictionary.weights=missing.ckpt")
    assert sentence == "weights=missing.ckpt is not there: give the path of a release, or null to begin without one"
