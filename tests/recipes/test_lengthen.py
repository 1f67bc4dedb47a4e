"""A trained classifier for longer clips: the same weights, whole clips, and what it refuses."""

import json

import numpy as np
import pytest
import torch
from recipe_files import HPARAMS

from models.bundle import load_bundle, read_facts, save_bundle
from models.windows import Windows
from recipes.inference import explain
from recipes.lengthen import lengthen, main
from recipes.scoring.explanation import classify
from tests.helpers import refusal


@pytest.fixture
def longer(bundle, tmp_path):
    """The bundle of CNN14, lengthened from 1 s to 3 s."""
    main([str(bundle("cnn14").parent), str(tmp_path / "long/1"), "--clip_seconds=3", "--hop_seconds=0.5"])
    return tmp_path / "long/1/classifier"


def test_the_same_weights_hear_windows_of_whole_clips(bundle, longer):
    before, after = load_bundle(bundle("cnn14"), "classifier"), load_bundle(longer, "classifier")
    assert after.info.sha256["weights.safetensors"] == before.info.sha256["weights.safetensors"]
    assert (after.info.clip_seconds, after.info.class_names) == (3.0, before.info.class_names)
    assert after.network.windows == Windows(1.0, 0.5, "mean_probability")
    assert after.info.source["lengthened"]["windows"]["seconds"] == 1.0
    assert after.info.source["data"] == before.info.source["data"]  # so it is not scored on its training clips
    sound = 0.1 * np.random.default_rng(0).standard_normal(16000).astype(np.float32)
    with torch.no_grad():
        assert np.array_equal(classify(after.network, sound, 1.0).mean, classify(before.network, sound, 1.0).mean)


def test_a_whole_long_sound_has_one_map(longer, interpret, sound_file, tmp_path):
    noise = 0.01 * np.random.default_rng(0).standard_normal(48000).astype(np.float32)
    noise[20000:30000] *= 50
    heard = explain(longer, noise, rate=16000, method="occlusion", quantile=0.9)
    assert heard.mask.shape == (259, 513)
    assert heard.mask.mean() == pytest.approx(0.1, abs=0.05)  # a tenth of the sound, not of each second
    arguments = (HPARAMS / "grad_cam.yaml", tmp_path / "out", f"--classifier={longer}")
    folder = interpret(*arguments, f"--audio={sound_file('long.wav', noise)}")
    told = json.loads((folder / "explanation.json").read_text())
    assert [window["start_seconds"] for window in told["windows"]] == [0]


def test_a_method_that_was_trained_on_short_clips_explains_long_ones(bundle, longer, interpret, tmp_path):
    step = ("--debug", "--debug_batches=1", "--debug_epochs=1", "--batch_size=2", "--report_clips=0")
    run = interpret(HPARAMS / "lmac.yaml", tmp_path, f"--classifier={bundle('cnn14')}", *step)
    noise = 0.1 * np.random.default_rng(0).standard_normal(48000).astype(np.float32)
    assert explain(longer, noise, rate=16000, method=run).mask.shape == (259, 513)


def test_a_recipe_s_classifier_hears_windows_in_training_and_in_its_bundle(train, tmp_path):
    step = ("--debug", "--debug_batches=1", "--debug_epochs=1", "--batch_size=2", "--num_classes=10")
    windows = "--windows={seconds: 0.5, pooling: max_logit}"
    run = train(HPARAMS / "cnn14_scratch.yaml", tmp_path, *step, "--width=0.0625", "--clip_seconds=1.0", windows)
    assert load_bundle(run / "classifier", "classifier").network.windows == Windows(0.5, None, "max_logit")


def test_a_transformer_trains_on_clips_longer_than_it_takes(train, tiny_ast, tmp_path):
    step = ("--debug", "--debug_batches=1", "--debug_epochs=1", "--batch_size=2", "--num_classes=10")
    recipe, weights = HPARAMS / "ast_long.yaml", f"--weights={tiny_ast}"
    told = refusal(train, HPARAMS / "ast.yaml", tmp_path, *step, weights, "--clip_seconds=2.0")
    assert told.startswith("this classifier hears 1.28 s at most") and told.endswith("--windows='{seconds: 1.28}'")
    run = train(
        recipe, tmp_path, *step, weights, "--clip_seconds=2.0", "--model.windows.seconds=1.28", "--hop_seconds=0.6"
    )
    assert load_bundle(run / "classifier", "classifier").network.windows.seconds == 1.28


def test_what_cannot_be_lengthened_is_told(bundle, longer, tmp_path):
    kept = bundle("cnn14")
    run = longer.parent
    assert refusal(main, [str(kept), str(tmp_path / "x"), "--clip_seconds=1"]) == (
        "clips of 1 s fit into a window of 1 s: nothing to lengthen"
    )
    assert refusal(main, [str(kept), str(run), "--clip_seconds=3"]) == (
        f"{longer} holds a classifier already: choose another run folder, or remove that one"
    )
    assert refusal(main, [str(tmp_path / "none"), str(run), "--clip_seconds=3"]).startswith("no trained classifier at ")
    assert refusal(main, [str(kept), str(tmp_path / "x"), "--clip_seconds=3", "--hop_seconds=2"]).startswith(
        "hop_seconds=2.0 must be above 0 and no more than the windows' seconds=1.0"
    )
    text = "classifier: !new:models.cnn14.CNN14\n    width: 0.0625\n"
    network = load_bundle(kept, "classifier").network.backbone
    other = save_bundle(tmp_path / "other/classifier", network, text, read_facts(kept, "classifier"))
    assert "does not fit the modules it asks for" in refusal(lengthen, other, tmp_path / "x", 3.0, Windows(1.0))
    assert not (tmp_path / "x").exists()
