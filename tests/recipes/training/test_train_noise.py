"""Noise in the training of a classifier: each part of the split hears its own files, and the test clips none."""

import numpy as np
import pytest
import soundfile
import speechbrain as sb
import torch
from recipe_files import TINY

from models.errors import UsageError
from recipes.training import classifier_brain
from recipes.training.classifier_brain import ClassifierBrain

RATE = 16000
TONES = {"tr": 1000, "cv": 2000, "tt": 3000}
ONE_EPOCH = ("--epochs=1", "--debug", "--debug_batches=2", "--debug_epochs=1")


@pytest.fixture(scope="module")
def wham(tmp_path_factory):
    """A noise folder laid out as WHAM!, with a tone of its own in each part."""
    folder = tmp_path_factory.mktemp("wham_noise")
    time = np.arange(4 * RATE) / RATE
    for part, frequency in TONES.items():
        (folder / part).mkdir()
        soundfile.write(folder / part / "tone.wav", 0.5 * np.sin(2 * np.pi * frequency * time), RATE)
    return folder


@pytest.fixture
def heard(monkeypatch):
    """stage -> the clips [B, N] that training sees of it, before they are augmented."""
    clips: dict[sb.Stage, list[torch.Tensor]] = {}
    forward, make_clips = ClassifierBrain.compute_forward, classifier_brain.TrainingClips
    stages = []

    def note_stage(self, batch, stage):
        stages.append(stage)
        return forward(self, batch, stage)

    def note_clips(waveform, target):
        clips.setdefault(stages[-1], []).append(waveform)
        return make_clips(waveform, target)

    monkeypatch.setattr(ClassifierBrain, "compute_forward", note_stage)
    monkeypatch.setattr(classifier_brain, "TrainingClips", note_clips)
    return clips


def loudest_frequencies(clips: list[torch.Tensor]) -> torch.Tensor:
    """Of each clip of one second, in Hz."""
    return torch.fft.rfft(torch.cat(clips)).abs().argmax(dim=1)


def test_each_part_hears_its_own_noise_and_the_test_clips_none(train, heard, wham, tmp_path):
    train(TINY, tmp_path, *ONE_EPOCH, "--train_noise=noise", f"--noise_folder={wham}", "--train_snr_db=-60")
    assert set(loudest_frequencies(heard[sb.Stage.TRAIN]).tolist()) == {TONES["tr"]}
    assert set(loudest_frequencies(heard[sb.Stage.VALID]).tolist()) == {TONES["cv"]}
    assert not set(loudest_frequencies(heard[sb.Stage.TEST]).tolist()) & set(TONES.values())


def test_the_level_is_the_papers_unless_it_is_set(train, heard, tmp_path):
    """Clips of one peak beside white noise at 6 dB and at 40 dB: the added part is 50 times weaker."""
    train(TINY, tmp_path / "clean", *ONE_EPOCH)
    clean = heard.pop(sb.Stage.VALID)
    distances = []
    for level in ((), ("--train_snr_db=40",)):
        train(TINY, tmp_path / f"{len(distances)}", *ONE_EPOCH, "--train_noise=white", *level)
        noisy = heard.pop(sb.Stage.VALID)
        ratios = []
        for clip, mixed in zip(torch.cat(clean), torch.cat(noisy), strict=True):
            scale = (clip @ mixed) / (clip @ clip)  # mixing scales the whole to a peak of 1
            ratios.append(((mixed - scale * clip).norm() / (scale * clip).norm()).item())
        distances.append(ratios)
    assert distances[0] == pytest.approx([0.5] * len(distances[0]), rel=0.05)
    assert distances[1] == pytest.approx([0.01] * len(distances[1]), rel=0.05)


def test_an_interrupted_training_with_noise_ends_as_the_undisturbed_one_to_the_bit(train, tmp_path, monkeypatch):
    changes = ("--epochs=2", "--train_noise=white", "--debug", "--debug_batches=2", "--debug_epochs=2")
    changes += ("--debug_persistently",)
    whole = train(TINY, tmp_path / "whole", *changes)
    start = ClassifierBrain.on_stage_start

    def cut(self, stage, epoch=None):
        if (stage, epoch) == (sb.Stage.TRAIN, 2):
            raise KeyboardInterrupt
        start(self, stage, epoch)

    monkeypatch.setattr(ClassifierBrain, "on_stage_start", cut)
    with pytest.raises(KeyboardInterrupt):
        train(TINY, tmp_path / "cut", *changes)
    monkeypatch.undo()
    resumed = train(TINY, tmp_path / "cut", *changes)
    weights = [(run / "classifier/weights.safetensors").read_bytes() for run in (whole, resumed)]
    assert weights[0] == weights[1]
    clean = train(TINY, tmp_path / "clean", *changes, "--train_noise=clean")
    assert (clean / "classifier/weights.safetensors").read_bytes() != weights[0]


def test_noise_that_changed_under_the_same_path_is_refused(train, wham, tmp_path):
    changes = (*ONE_EPOCH, "--train_noise=noise", f"--noise_folder={wham}")
    train(TINY, tmp_path, *changes)
    soundfile.write(wham / "tr/more.wav", np.full(RATE, 0.1), RATE)
    with pytest.raises(UsageError, match="noise_folder: "):
        train(TINY, tmp_path, *changes)
    (wham / "tr/more.wav").unlink()
