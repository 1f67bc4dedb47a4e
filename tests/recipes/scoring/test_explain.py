"""Explaining sounds of any length, rate and level: what `interpret.py --audio` writes, and how windows are joined."""

import json
import math

import numpy as np
import pytest
import soundfile
import torch
from recipe_files import HPARAMS

from interpreters.gradients import Gradient
from interpreters.maps import QuantileMap
from models.bundle import read_info
from models.errors import UsageError
from recipes.data.audio import prepare_window
from recipes.data.preparation import prepare
from recipes.data.sounds import SpooledSamples, open_sound
from recipes.runs.subject import load_subject
from recipes.scoring.explanation import classify, explain, explain_windows
from recipes.scoring.joining import Parts, fade_border

MODULATION = HPARAMS / "modulation.yaml"


def refusal(call, *given) -> str:
    with pytest.raises(UsageError) as caught:
        call(*given)
    return str(caught.value)


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


@pytest.fixture(scope="module")
def subject(bundle):
    return load_subject(bundle("focalnet"), "cpu")


def test_windows_lie_side_by_side_without_their_padding(subject):
    sound = np.random.default_rng(0).standard_normal(16000 + 1600)
    explanation = explain(subject.classifier, QuantileMap(subject.offers, 0.5), sound, 1.0)
    frames = subject.classifier.frontend.num_frames(17600)
    assert explanation.log_magnitude.shape == explanation.mask.shape == (frames, 513)
    assert len(explanation.sound) == len(explanation.relevant) == len(explanation.residual) == 17600
    assert np.abs(explanation.sound).max() == pytest.approx(1)
    assert explanation.probabilities.shape == (2, 10)
    assert explanation.window_samples.tolist() == [16000, 1600]
    assert explanation.window_seconds == 1.0


def test_an_explanations_level_does_not_matter(subject):
    sound = np.random.default_rng(0).standard_normal(16000)
    loud, soft = (explain(subject.classifier, QuantileMap(subject.offers), gain * sound, 1.0) for gain in (10, 0.01))
    assert np.allclose(loud.probabilities, soft.probabilities, atol=1e-5)
    assert np.allclose(loud.relevant, soft.relevant, atol=1e-4)


# one preparation


@pytest.mark.parametrize("kind", ["focalnet", "cnn14"])
def test_a_file_gets_the_probabilities_that_scoring_gives_the_clip(bundle, corpus, tmp_path, kind):
    subject = load_subject(bundle(kind), "cpu")
    store = prepare(corpus, tmp_path / "cache", 16000, 1.0)
    tested = [index for index, clip in enumerate(store.corpus.clips) if clip.fold == 5]
    assert len(tested) == 20
    for index in tested:
        waveform = torch.from_numpy(store.waveform(index))[None]
        with torch.no_grad():
            scored = subject.classifier(subject.classifier.frontend.analyze(waveform)).probabilities[0].numpy()
        sound = open_sound(store.corpus.clips[index].path, 16000)
        assert np.array_equal(classify(subject.classifier, sound, 1.0).mean, scored)


def test_preparing_a_prepared_window_changes_nothing():
    sound = np.random.default_rng(0).uniform(-0.3, 0.2, 900).astype(np.float32)
    prepared = prepare_window(sound, 1000)
    assert np.abs(prepared).max() == 1
    assert np.abs(prepared[:900] - sound / np.abs(sound).max()).max() < 1 / 65000
    assert prepared[900:].tolist() == [0] * 100
    assert np.array_equal(prepare_window(prepared, 1000), prepared)
    assert prepared * 32767 == pytest.approx(np.rint(prepared * 32767), abs=0.01)


def test_a_short_sound_is_padded_as_a_short_clip_of_training_is(subject):
    short = np.random.default_rng(1).standard_normal(5000).astype(np.float32)
    padded = np.pad(short, (0, 11000))
    alone, clip = (classify(subject.classifier, sound, 1.0) for sound in (short, padded))
    assert np.array_equal(alone.mean, clip.mean)
    assert len(explain(subject.classifier, QuantileMap(subject.offers), short, 1.0).relevant) == 5000


def test_every_window_is_normalised_as_a_clip_is(subject):
    loud, quiet = np.random.default_rng(2).standard_normal((2, 16000)).astype(np.float32)
    together = classify(subject.classifier, np.concatenate([loud, 0.01 * quiet]), 1.0)
    apart = [classify(subject.classifier, sound, 1.0).mean for sound in (loud, quiet)]
    assert together.probabilities == pytest.approx(np.stack(apart), abs=1e-5)


def test_windows_weigh_by_the_samples_they_hold(subject):
    sound = np.random.default_rng(3).standard_normal(16160).astype(np.float32)
    posterior = classify(subject.classifier, sound, 1.0)
    assert posterior.samples.tolist() == [16000, 160]
    expected = (100 * posterior.probabilities[0] + posterior.probabilities[1]) / 101
    assert posterior.mean == pytest.approx(expected, abs=1e-6)
    explanation = explain(subject.classifier, QuantileMap(subject.offers), sound, 1.0)
    assert explanation.mean(explanation.probabilities) == pytest.approx(posterior.mean, abs=1e-6)


# joined without a seam


def test_the_spectrogram_of_a_file_is_one_analysis_of_it(subject):
    sound = np.random.default_rng(4).uniform(-1, 1, 16000 * 3 + 777).astype(np.float32)
    explanation = explain(subject.classifier, QuantileMap(subject.offers), sound, 1.0)
    whole = torch.from_numpy(sound / np.abs(sound).max())[None]
    expected = subject.classifier.frontend.analyze(whole).log_magnitude[0].numpy()
    assert explanation.log_magnitude == pytest.approx(expected, abs=1e-5)
    assert explanation.mask.shape == expected.shape


def test_relevant_and_residual_are_the_input_across_borders_and_at_every_level(subject):
    sound = np.random.default_rng(5).standard_normal(16000 * 3 + 300).astype(np.float32)
    sound[16000:32000] *= 0.03
    explanation = explain(subject.classifier, QuantileMap(subject.offers, 0.7), sound, 1.0)
    assert explanation.relevant + explanation.residual == pytest.approx(explanation.sound, abs=2e-6)
    assert explanation.sound == pytest.approx(sound / np.abs(sound).max(), abs=2e-5)


def test_parts_meet_at_a_border_without_a_click(subject):
    """A tone of 1 kHz whose mask changes at the border from all of it to nothing fades; cut off, it would jump."""
    frontend = subject.classifier.frontend
    time = np.arange(16000) / 16000
    tone = np.cos(2 * np.pi * 1000 * time).astype(np.float32)
    left, right = Parts(tone, tone.copy(), 0 * tone), Parts(tone, 0 * tone, tone.copy())
    jump = abs(left.relevant[-1] - right.relevant[0])
    fade_border(left, right, frontend)
    joined = np.concatenate([left.relevant, right.relevant])
    steps = np.abs(np.diff(joined)).max()
    assert jump > 0.9
    assert steps < 1.05 * np.abs(np.diff(tone)).max()
    assert joined + np.concatenate([left.residual, right.residual]) == pytest.approx(np.tile(tone, 2), abs=1e-6)
    assert np.array_equal(left.relevant[:-512], tone[:-512])
    assert not right.relevant[512:].any()
    envelope = np.abs(joined.reshape(-1, 16)).max(axis=1)[1000 - 24 : 1000 + 24]
    assert (np.diff(envelope) < 0.01).all()


def test_a_long_file_is_explained_in_memory_that_does_not_grow(subject, monkeypatch, tmp_path):
    """The same windows come from a file on disk as from memory, one after another."""
    wave = np.random.default_rng(6).uniform(-0.5, 0.5, 16000 * 4 + 55).astype(np.float32)
    soundfile.write(tmp_path / "long.wav", wave, 16000, subtype="FLOAT")
    monkeypatch.setattr("recipes.data.sounds.IN_MEMORY_SAMPLES", 16000)
    spooled = open_sound(tmp_path / "long.wav", 16000)
    assert isinstance(spooled.samples, SpooledSamples) and len(spooled) == len(wave)
    assert spooled.level == np.abs(wave).max()
    interpreter = QuantileMap(subject.offers)
    windows = explain_windows(subject.classifier, interpreter, spooled, 1.0)
    whole = explain(subject.classifier, interpreter, wave, 1.0)
    assert np.array_equal(next(windows).relevant, whole.relevant[:16000])
    assert np.array_equal(np.concatenate([window.relevant for window in windows]), whole.relevant[16000:])


# one class


def test_a_long_file_explains_the_class_of_its_averaged_windows(subject):
    sound = np.random.default_rng(7).standard_normal(16000 * 5).astype(np.float32)
    posterior = classify(subject.classifier, sound, 1.0)
    interpreter = Gradient(subject.offers, "gradient")
    explanation = explain(subject.classifier, interpreter, sound, 1.0)
    assert explanation.targets.tolist() == [posterior.prediction] * 5
    other = (posterior.prediction + 1) % 10
    asked = explain(subject.classifier, interpreter, sound, 1.0, other)
    assert asked.targets.tolist() == [other] * 5
    assert (asked.target, asked.prediction) == (other, posterior.prediction)
    assert not np.array_equal(asked.mask, explanation.mask)
