"""A classifier whose classes are sentences: scored without training, explained from its bundle, and fine-tuned."""

import json
from pathlib import Path

import pytest
import torch
from helpers import refusal
from recipe_files import HPARAMS

from models.bundle import load_bundle, read_facts
from models.clap import ClapClassifier
from models.frontend import FrontEnd
from recipes import adopt
from recipes.config.recipe import load_recipe
from recipes.conformance import check_recipe
from recipes.data.metadata import read_corpus
from recipes.inference import explain
from recipes.runs.subject import load_subject

CLAP = HPARAMS / "clap.yaml"
SHORT = ("--clip_seconds=1.0", "--num_classes=10", "--batch_size=10")


@pytest.fixture(scope="module")
def zero_shot(train, tiny_clap, tmp_path_factory) -> Path:
    """The folder of a run that trains nothing."""
    return train(CLAP, tmp_path_factory.mktemp("zero_shot"), *SHORT, f"--weights={tiny_clap}")


def test_it_is_scored_as_it_is(zero_shot, tiny_clap, corpus):
    facts = json.loads((zero_shot / "metrics.json").read_text())
    assert facts["training"]["epochs"] == 0 and "epoch" not in facts["training"]
    assert facts["classifier"]["weights"] == str(tiny_clap)
    subject = load_subject(zero_shot / "classifier", "cpu")
    names = read_corpus(corpus).class_names
    expected = ClapClassifier(FrontEnd(48000, 2048), str(tiny_clap), num_classes=10).freeze()
    expected.name_classes(names)
    assert subject.info.class_names == names
    assert subject.classifier.prompts == tuple(f"This is a sound of {name.replace('_', ' ')}." for name in names)
    spectrogram = expected.frontend.analyze(0.1 * torch.randn(2, 48000))
    assert torch.equal(subject.classifier(spectrogram).logits, expected(spectrogram).logits)
    assert subject.offers.sample_rate == subject.info.sample_rate == 48000


def test_its_bundle_holds_no_path_and_rebuilds_from_what_it_says(zero_shot, tiny_clap):
    bundle = load_bundle(zero_shot / "classifier", "classifier")
    assert str(tiny_clap) not in (zero_shot / "classifier/model.yaml").read_text()
    assert bundle.network.encoder is None
    assert bundle.network.describe().settings["prompts"] == list(bundle.network.prompts)


def test_it_has_seen_no_clip(zero_shot, interpret, tmp_path):
    source = read_facts(zero_shot / "classifier", "classifier").source
    assert (source["data"]["train_folds"], source["data"]["valid_folds"], source["clips"]) == ([], [], {})
    folds = ("--train_folds=[4]", "--valid_folds=[5]", "--test_folds=[1]")
    few = ("--debug", "--debug_batches=1", "--eval_batch_size=2", "--report_clips=0")
    interpret(HPARAMS / "control_loudest.yaml", tmp_path, f"--classifier={zero_shot / 'classifier'}", *folds, *few)


@pytest.mark.parametrize("method", ["grad_cam", "lime"])
def test_a_method_explains_any_of_its_prompts(zero_shot, interpret, sound_file, tmp_path, method):
    sound = sound_file("noise.wav", 0.1 * torch.randn(48000).numpy(), 48000)
    names = read_facts(zero_shot / "classifier", "classifier").class_names
    asked = (f"--audio={sound}", f"--target={names[3]}", "--samples=4")
    folder = interpret(HPARAMS / f"{method}.yaml", tmp_path, f"--classifier={zero_shot / 'classifier'}", *asked)
    assert (folder / "report.html").is_file()


def test_prompts_that_are_listed_are_the_classes(train, tiny_clap, tmp_path):
    prompts = [f"sentence {letter}" for letter in "abcdefghij"]
    listed = (f"--prompts=[{','.join(prompts)}]", f"--weights={tiny_clap}")
    bundle = load_bundle(train(CLAP, tmp_path, *SHORT, *listed) / "classifier", "classifier").network
    assert bundle.prompts == tuple(prompts)


def test_more_epochs_fine_tune_it_and_leave_its_prompts(zero_shot, train, tiny_clap, tmp_path):
    run = train(CLAP, tmp_path, *SHORT, f"--weights={tiny_clap}", "--epochs=1", "--peak_lr=1.0e-3")
    assert json.loads((run / "metrics.json").read_text())["training"]["epoch"] == 1
    before, after = (load_bundle(folder / "classifier", "classifier").network for folder in (zero_shot, run))
    assert torch.equal(before.head.text, after.head.text)
    assert not torch.equal(before.backbone.network.audio_projection.linear1.weight,
                           after.backbone.network.audio_projection.linear1.weight)  # fmt: skip
    assert read_facts(run / "classifier", "classifier").source["data"]["train_folds"] == [1, 2, 3]


def test_of_classifiers_only_one_of_prompts_needs_no_epoch(arguments, tmp_path):
    assert load_recipe(arguments(CLAP, tmp_path)).values["epochs"] == 0
    for value in ("false", "-1"):
        assert "epochs=" in refusal(load_recipe, arguments(CLAP, tmp_path, f"--epochs={value}"))
    told = refusal(load_recipe, arguments(HPARAMS / "focalnet.yaml", tmp_path, "--epochs=0"))
    assert "epochs=0 must be a whole number of 1 or more" in told


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ("--template=a dog", "template='a dog' must be a sentence with {} where the name of a class goes"),
        ("--prompts=rain", "prompts='rain' must be null or a list of sentences"),
    ],
)
def test_mistakes_are_told_before_anything_is_loaded(arguments, tmp_path, change, told):
    assert told in refusal(load_recipe, arguments(CLAP, tmp_path, change))


def test_prompts_must_be_as_many_as_classes(train, tiny_clap, tmp_path):
    told = refusal(train, CLAP, tmp_path, *SHORT, f"--weights={tiny_clap}", "--prompts=[dog, rain]")
    assert "there are 2 prompts and num_classes=10" in told


def test_sentences_of_ones_own_need_no_data(tiny_clap, interpret, sound_file, tmp_path, capsys):
    run = tmp_path / "mine/1234"
    adopt.main([str(tiny_clap), str(run), "--clip_seconds=2", "--prompts=[a dog barks, rain on a roof]"])
    subject = load_subject(run / "classifier", "cpu")
    assert subject.info.class_names == ("a dog barks", "rain on a roof")
    published = ClapClassifier(FrontEnd(48000, 2048), str(tiny_clap), ["a dog barks", "rain on a roof"]).freeze()
    spectrogram = published.frontend.analyze(0.1 * torch.randn(1, 48000))
    assert torch.equal(subject.classifier(spectrogram).logits, published(spectrogram).logits)
    sound = sound_file("noise.wav", 0.1 * torch.randn(48000).numpy(), 48000)
    asked = (f"--audio={sound}", "--target=rain on a roof", f"--classifier={run / 'classifier'}")
    assert (interpret(HPARAMS / "grad_cam.yaml", tmp_path, *asked) / "report.html").is_file()
    assert "rain on a roof (explained)" in capsys.readouterr().out


def test_sentences_are_asked_for_from_python(tiny_clap):
    classifier = ClapClassifier(FrontEnd(48000, 2048), str(tiny_clap), ["a dog barks", "rain on a roof"])
    heard = explain(classifier, 0.1 * torch.randn(48000).numpy(), "grad_cam", "a dog barks", 48000)
    assert heard.target == "a dog barks"


@pytest.mark.parametrize("option", ["--prompts=rain", "--prompts=[rain]", "--prompts=[", "--prompts="])
def test_prompts_to_adopt_are_a_list(tiny_clap, tmp_path, option):
    assert "is not of the form --prompts=" in refusal(adopt.main, [str(tiny_clap), str(tmp_path), option])


def test_prompts_to_adopt_are_different_sentences(tiny_clap, tmp_path):
    told = refusal(adopt.main, [str(tiny_clap), str(tmp_path / "run"), "--prompts=[rain, rain]"])
    assert "must be a list of different sentences" in told


def test_its_recipe_conforms(tiny_clap, arguments, tmp_path):
    recipe = load_recipe(arguments(CLAP, tmp_path, f"--weights={tiny_clap}", "--num_classes=4"))
    assert check_recipe(recipe) == []
