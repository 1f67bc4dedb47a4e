"""Signals that deceive are named, one file at a time and counted over a data folder."""

import numpy as np
import pytest
import soundfile

from recipes.data.cache import decoded_clips
from recipes.data.signals import sentence, signal_faults

RATE = 8000
NOISE = 0.2 * np.random.default_rng(0).uniform(-1, 1, (8, RATE)).astype(np.float32)
TONE = 0.5 * np.sin(2 * np.pi * 100 * np.arange(RATE) / RATE).astype(np.float32)


def kinds(waveform: np.ndarray) -> list[str]:
    return [fault.kind for fault in signal_faults(np.atleast_2d(waveform))]


@pytest.mark.parametrize(
    ("waveform", "expected"),
    [
        (TONE, []),
        (NOISE, []),  # eight independent channels lose 9 dB
        (np.zeros((2, 100)), ["silent"]),
        (np.full(100, 0.00009), ["silent"]),
        (np.zeros((1, 0)), ["silent"]),
        (TONE + 0.012, ["offset"]),
        (TONE - 0.3, ["offset"]),
        (TONE + 0.009, []),
        (np.stack([TONE, -TONE]), ["cancelling"]),
        (np.stack([TONE, -0.6 * TONE]), ["cancelling"]),  # (1 + 0.36) / 2 against 0.04: 12.3 dB
        (np.stack([TONE, -0.4 * TONE]), []),  # (1 + 0.16) / 2 against 0.09: 8.1 dB
        (np.clip(4 * TONE, -1, 1), ["clipped"]),
        (1.9995 * TONE, ["clipped"]),  # nearly so: both tops of every cycle
        (1.99 * TONE, []),
    ],
)
def test_what_deceives_is_named(waveform, expected):
    assert kinds(waveform) == expected


def test_a_few_samples_at_full_scale_are_no_clipping():
    wave = TONE.copy()
    wave[:9] = 1.0
    assert kinds(wave) == []
    wave[:10] = 1.0
    assert kinds(wave) == ["clipped"]
    assert kinds(np.concatenate([wave, np.tile(TONE, 20)])) == []  # 10 of 168000 samples


def test_floats_on_another_scale_are_not_called_clipped():
    assert kinds(5 * TONE) == []
    assert kinds(32767 * TONE) == []


def test_the_sentence_says_how_much():
    assert sentence("a.wav", signal_faults(TONE[None] + 0.5)) == (
        "a.wav: it has a constant offset of 50% of its peak: subtract its mean first; 100 of its 8000 samples reach "
        "full scale: it may be clipped."
    )
    opposite = signal_faults(np.stack([TONE, -TONE]))
    assert opposite[0].clause == "its channels cancel each other altogether when mixed to one: give one of them"
    assert "lose 12 dB" in signal_faults(np.stack([TONE, -0.6 * TONE]))[0].clause


def test_a_data_folder_is_told_how_many_files_deceive_with_examples(tmp_path, caplog):
    sounds = {"fine.wav": TONE, "a.wav": 0 * TONE, "b.wav": TONE + 0.3, "c.wav": TONE + 0.2, "d.wav": TONE + 0.1}
    sounds |= {"e.wav": TONE - 0.1, "opposite.wav": np.stack([TONE, -TONE], axis=1)}
    for name, wave in sounds.items():
        soundfile.write(tmp_path / name, wave, RATE, subtype="FLOAT")
    expected = [
        "1 of 7 sound files hold digital silence: a.wav",
        "4 of 7 sound files have a constant offset: b.wav, c.wav, d.wav and 1 more",
        "1 of 7 sound files have channels that cancel each other: opposite.wav",
    ]
    for _ in range(2):  # built, then found
        decoded_clips([tmp_path / name for name in sounds], tmp_path / "cache", RATE, RATE)
        assert caplog.messages == expected
        caplog.clear()
