"""The tool for long clips: sounds of several classes, and where a mask lies in time."""

import json

import numpy as np
import pytest
import torch

from recipes.data.metadata import read_corpus
from recipes.runs.subject import load_subject
from recipes.synthetic import make_corpus
from tests.helpers import refusal
from tools.long_clips import Answers, build_sounds, main, shares


def test_shares_of_a_map_by_hand():
    importance = torch.zeros(10, 3)
    importance[0, 0] = importance[5] = 1  # one bin in the first half, three in the second
    importance[1] = -1  # speaks against the class
    assert shares(importance, 2).tolist() == [0.25, 0.75]
    assert shares(torch.ones(12, 2), 3).tolist() == pytest.approx([1 / 3] * 3)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A corpus of one-second clips, and the bundle of a CNN14 of random weights for it."""
    from recipes.classification import train_classifier
    from recipes.config.recipe import load_recipe

    folder = tmp_path_factory.mktemp("long")
    corpus = make_corpus(folder / "corpus", clips_per_class=5, seconds=1.0, mixtures=0)
    step = ("--debug", "--debug_batches=1", "--debug_epochs=1", "--batch_size=2", "--num_classes=10", "--noprogressbar")
    places = (f"--data_folder={corpus}", f"--cache_folder={folder}/cache", f"--output_folder={folder}")
    small = ("--width=0.0625", "--clip_seconds=1.0", "--device=cpu", "--precision=fp32")
    return corpus, train_classifier(load_recipe(["hparams/cnn14_scratch.yaml", *step, *places, *small])) / "classifier"


def test_sounds_are_clips_of_different_classes_end_to_end(trained):
    corpus, bundle = trained
    subject = load_subject(bundle, "cpu")
    clips = read_corpus(corpus, None, {}).clips
    sounds = build_sounds(clips, subject, sounds=2, length=5, seed=3)
    assert [sound.waveform.shape for sound in sounds] == [(80000,), (80000,)]
    assert sorted(sounds[0].targets + sounds[1].targets) == list(range(10))
    assert np.abs(sounds[0].waveform.reshape(5, -1)).max(axis=1) == pytest.approx(np.ones(5))
    again = build_sounds(clips, subject, sounds=2, length=5, seed=3)
    assert np.array_equal(sounds[1].waveform, again[1].waveform)


def test_more_sounds_than_classes_take_other_clips_of_them(trained):
    corpus, bundle = trained
    subject = load_subject(bundle, "cpu")
    clips = read_corpus(corpus, None, {}).clips  # five of each of ten classes
    sounds = build_sounds(clips, subject, sounds=5, length=6, seed=3)
    assert [len(set(sound.targets)) for sound in sounds] == [6] * 5
    pieces = np.concatenate([sound.waveform for sound in sounds]).reshape(30, -1)
    assert len(np.unique(pieces, axis=0)) == 30
    assert refusal(build_sounds, clips, subject, 6, 6, 3) == (
        "--sounds=6 of --clips=6 are more than the 5 that the fold's 10 classes of at least 5 clips make"
    )
    assert refusal(build_sounds, clips, subject, 1, 11, 3) == (
        "--clips=11 in a sound need as many classes, and the fold has 10"
    )


def test_a_sound_is_what_the_intervals_draw():
    answers = Answers(
        right=[1.0] * 4, share=[0.0, 0.0, 1.0, 1.0], pointed=[0.0, 1.0] * 2, sounds=[0, 0, 1, 1], seconds=2
    )
    summary = answers.summary()
    assert (summary["right"], summary["share"], summary["pointed"]) == (1, 0.5, 0.5)
    # two sounds of share 0 and 1 are drawn alike in half of the samples; their `pointed` is 0.5 each
    assert summary["intervals"] == {"right": [1, 1], "share": [0, 1], "pointed": [0.5, 0.5]}


def test_every_method_is_asked_about_every_class(trained, tmp_path, capsys):
    corpus, bundle = trained
    out = tmp_path / "long.json"
    options = ["--sounds=1", "--clips=4", "--hop_seconds=0.5", "--methods", "grad_cam", "control_loudest"]
    main([str(bundle), str(corpus), f"--out={out}", *options, "--poolings", "max_logit", "whole"])
    result = json.loads(out.read_text())
    assert (result["seconds"], len(result["rows"])) == (4.0, 4)
    assert [row["pooling"] for row in result["rows"]] == ["max_logit"] * 2 + ["whole"] * 2
    windowed, whole = result["rows"][0], result["rows"][2]
    assert windowed["share"] != whole["share"]
    loudest = result["rows"][1]
    # the same map whatever is asked: the shares of four places, one of which has the most
    assert loudest["share"] == pytest.approx(0.25) and loudest["pointed"] == 0.25
