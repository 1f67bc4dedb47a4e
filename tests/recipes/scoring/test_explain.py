"""Explaining sounds of any length, rate and level: what `interpret.py --audio` writes, and how windows are joined."""

import json
import math

import numpy as np
import pytest
import soundfile
from recipe_files import HPARAMS

from interpreters.maps import QuantileMap
from models.bundle import read_info
from recipes.runs.subject import load_subject
from recipes.scoring.explanation import explain
from tests.helpers import refusal

MODULATION = HPARAMS / "modulation.yaml"


@pytest.fixture(scope="module")
def focalnet(bundle) -> str:
    return f"--classifier={bundle('focalnet')}"


@pytest.mark.parametrize(
    ("seconds", "channels", "rate", "loud"),
    [(0.3, 1, 16000, 0.1), (1.37, 1, 16000, 0.1), (7.3, 2, 44100, 0.1), (2.0, 1, 16000, 0.0)],
)
def test_a_file_of_any_length_rate_and_level_is_explained(
    interpret, focalnet, bundle, sound_file, tmp_path, seconds, channels, rate, loud
):
    wave = loud * np.random.default_rng(0).standard_normal((round(seconds * rate), channels))
    path = sound_file("heard.wav", wave, rate)
    folder = interpret(MODULATION, tmp_path / "out", focalnet, f"--audio={path}", "--data_folder=nowhere")
    assert folder == tmp_path / "out/modulation/1234/audio/heard"
    samples = math.ceil(len(wave) * 16000 / rate)
    for part in ("input", "relevant", "residual"):
        found = soundfile.info(folder / f"{part}.wav")
        assert (found.channels, found.samplerate, found.frames) == (1, 16000, samples)
    told = json.loads((folder / "explanation.json").read_text())
    assert told["file"] == "heard.wav"
    assert told["seconds"] == pytest.approx(seconds, abs=1e-3)
    names = read_info(bundle("focalnet"), "classifier").class_names
    assert [window["start_seconds"] for window in told["windows"]] == list(range(math.ceil(seconds)))
    assert all(window["prediction"] in names for window in told["windows"])
    assert next(iter(told["top"])) in names
    assert 0 < told["kept"] <= 1
    assert {"explanation.png", "report.html"} <= {one.name for one in folder.iterdir()}
    assert not (tmp_path / "out/modulation/1234/hyperparams.yaml").exists()


def test_a_file_with_nan_is_refused_by_name(interpret, focalnet, sound_file, tmp_path):
    wave = np.zeros(8000)
    wave[77] = np.nan
    path = sound_file("broken.wav", wave)
    told = refusal(interpret, MODULATION, tmp_path, focalnet, f"--audio={path}")
    assert told == f"{path} holds NaN or infinite samples: replace or remove it."


def test_a_missing_file_is_refused_by_name(interpret, focalnet, tmp_path):
    assert refusal(interpret, MODULATION, tmp_path, focalnet, "--audio=nowhere.wav").startswith("nowhere.wav does not")


def test_windows_lie_side_by_side_without_their_padding(bundle):
    subject = load_subject(bundle("focalnet"), "cpu")
    frontend = subject.classifier.frontend
    sound = np.random.default_rng(0).standard_normal(16000 + 1600)
    found = explain(subject.classifier, QuantileMap(subject.offers, 0.5), sound, 1.0)
    frames = frontend.num_frames(16000) + frontend.num_frames(1600)
    assert found.log_magnitude.shape == found.mask.shape == (frames, 513)
    assert len(found.sound) == len(found.relevant) == len(found.residual) == 17600
    assert np.abs(found.sound).max() == pytest.approx(1)
    assert found.probabilities.shape == (2, 10)
    assert found.window_seconds == 1.0


def test_an_explanations_level_does_not_matter(bundle):
    subject = load_subject(bundle("focalnet"), "cpu")
    sound = np.random.default_rng(0).standard_normal(16000)
    loud, soft = (explain(subject.classifier, QuantileMap(subject.offers), gain * sound, 1.0) for gain in (10, 0.01))
    assert np.allclose(loud.probabilities, soft.probabilities, atol=1e-5)
    assert np.allclose(loud.relevant, soft.relevant, atol=1e-5)
