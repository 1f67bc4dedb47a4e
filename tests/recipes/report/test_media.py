"""Sounds and pictures as bytes: what comes back from them."""

import base64
import io

import numpy as np
import soundfile
import torch
from PIL import Image

from models.frontend import FrontEnd
from recipes.report.media import (
    MAX_COLUMNS,
    PICTURE_RANGE_DB,
    Sound,
    encode_sound,
    importance_picture,
    level_picture,
    mask_picture,
)

RATE = 16000


def decoded(webp: bytes) -> np.ndarray:
    """[height, width] of the grey values."""
    return np.asarray(Image.open(io.BytesIO(webp)).convert("RGB"))[..., 0].astype(float)


def test_a_flac_is_the_sound_and_an_mp3_is_small():
    wave = np.random.default_rng(0).uniform(-1, 1, RATE).astype(np.float32)
    lossless, small = (encode_sound(Sound("x", wave, RATE), each).partition(",") for each in (True, False))
    assert (lossless[0], small[0]) == ("data:audio/flac;base64", "data:audio/mpeg;base64")
    assert len(small[2]) < len(lossless[2]) / 2.5
    back, rate = soundfile.read(io.BytesIO(base64.b64decode(lossless[2])), dtype="float32")
    assert rate == RATE
    assert np.abs(back - wave).max() < 2 / 32768


def test_a_picture_has_low_frequencies_at_the_bottom_and_a_largest_width():
    values = np.zeros((8, 8))
    values[:, 0] = 1
    image = decoded(mask_picture(values))
    assert image.shape[:2] == (8, 8)
    assert image[-1].mean() > 150 > 60 > image[0].mean()
    assert decoded(mask_picture(np.zeros((3 * MAX_COLUMNS, 2)))).shape[1] == MAX_COLUMNS


def test_the_loudest_of_the_frames_in_a_column_is_shown():
    values = np.zeros((2 * MAX_COLUMNS, 16))
    values[1::2] = 1
    assert decoded(mask_picture(values)).min() > 240


def test_masks_of_islands_are_drawn_at_half_the_size():
    values = np.random.default_rng(0).random((400, 512)).round()
    image = decoded(mask_picture(values))
    assert image.shape == (256, 200)
    assert len(mask_picture(values)) < 0.12 * values.size
    smooth = np.zeros((400, 512))
    smooth[100:200, 100:300] = 1
    assert decoded(mask_picture(smooth)).shape == (512, 400)


def test_grey_is_linear_in_decibels_below_the_loudest_bin():
    # 0, 20, 50 and more than 100 dB below the loudest
    magnitudes = np.repeat(np.array([[7.0, 0.7, 7 * 10**-2.5, 1e-9]], dtype=np.float32), 16, axis=0)
    magnitudes = np.repeat(magnitudes, 16, axis=1)
    image = decoded(level_picture(np.log1p(magnitudes)))
    levels = [PICTURE_RANGE_DB * (image[row].mean() / 255 - 1) for row in (56, 40, 24, 8)]
    assert np.allclose(levels, [0, -20, -50, -100], atol=3)
    assert decoded(level_picture(np.zeros((16, 16), dtype=np.float32))).max() < 5


def test_importance_of_any_scale_fills_the_greys():
    values = np.repeat(np.linspace(-3, 7, 16)[:, None], 16, axis=1)
    image = decoded(importance_picture(values))
    assert image[:, 0].mean() < 15 and image[:, -1].mean() > 240
    assert decoded(importance_picture(np.full((16, 16), 5.0))).max() < 5


def test_levels_are_those_of_the_front_end():
    tone = np.sin(2 * np.pi * 1000 * np.arange(RATE) / RATE).astype(np.float32)
    spectrogram = FrontEnd().analyze(torch.from_numpy(tone)[None])
    image = decoded(level_picture(spectrogram.log_magnitude[0].numpy()))
    # 1 kHz is bin 64 of 0 to 512, counted from the bottom
    assert image[:, 40].argmax() == 512 - 64
