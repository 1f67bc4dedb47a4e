"""Sounds and pictures as bytes that a page can hold."""

import base64
import io
from dataclasses import dataclass

import numpy as np
import soundfile
import torch
from PIL import Image

from models.frontend import expand
from recipes.data.audio import to_int16

MAX_COLUMNS = 4000
"""Pixels along the time of a picture; a longer sound has several frames in one column."""
PICTURE_RANGE_DB = 100.0
"""From the loudest bin of a clip down to the quietest level that a picture tells apart."""
PICTURE_QUALITY, MASK_QUALITY = 75, 60
LIGHT_QUALITY = 40
HEADER_BYTES = 500
HEAVY_BYTES_PER_BIN = 0.06
"""A picture of 5 s at 16 kHz has 221 000 bins; heavier than 13 kB, it is drawn smaller."""
MP3_SMALLNESS = 0.7
"""0 is the encoder's best quality and 1 its smallest file; at 0.7, 16 kHz take about 3 kB a second."""


@dataclass(frozen=True)
class Sound:
    """A named sound for a player: float waveform [N], its rate in Hz, and the part of the picture that it is.

    part: "input", "relevant" or "residual".
    """

    name: str
    waveform: np.ndarray
    sample_rate: int
    part: str = "input"


def encode_sound(sound: Sound, lossless: bool = True) -> str:
    """The sound as a data URI: 16-bit FLAC, or MP3. Clipped at full scale."""
    stream = io.BytesIO()
    samples = to_int16(sound.waveform)
    if lossless:
        soundfile.write(stream, samples, sound.sample_rate, format="FLAC", subtype="PCM_16")
        return data_uri(stream.getvalue(), "audio/flac")
    options = {"bitrate_mode": "VARIABLE", "compression_level": MP3_SMALLNESS}
    soundfile.write(stream, samples, sound.sample_rate, format="MP3", subtype="MPEG_LAYER_III", **options)
    return data_uri(stream.getvalue(), "audio/mpeg")


def data_uri(content: bytes, kind: str) -> str:
    """Bytes as an address that holds them."""
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def level_picture(log_magnitude: np.ndarray) -> bytes:
    """The levels of a spectrogram [T, F] of log1p magnitudes as a grey WebP.

    White is the loudest bin, black lies `PICTURE_RANGE_DB` or more below it; grey is linear in dB. A silent clip is
    black.
    """
    magnitude = expand(torch.from_numpy(log_magnitude)).double().numpy()
    loudest = magnitude.max()
    if loudest <= 0:
        return _grey_picture(np.zeros_like(magnitude), PICTURE_QUALITY)
    levels = 20 * np.log10(np.maximum(magnitude / loudest, 1e-12))
    return _grey_picture(1 + levels / PICTURE_RANGE_DB, PICTURE_QUALITY)


def mask_picture(mask: np.ndarray) -> bytes:
    """A mask [T, F] in [0, 1] as a grey WebP; white is kept.

    A mask of many small islands, which hardly compresses, is shown at half the resolution.
    """
    return _light_picture(mask)


def importance_picture(importance: np.ndarray) -> bytes:
    """A map [T, F] of any scale as a grey WebP, from its smallest value, black, to its largest, white.

    Like a mask, it is shown at half the resolution where it hardly compresses.
    """
    low, high = float(importance.min()), float(importance.max())
    spread = high - low if high > low else 1.0
    return _light_picture((importance - low) / spread)


def _light_picture(values: np.ndarray) -> bytes:
    """[T, F] values in 0 .. 1 as a WebP, at half the resolution where it would be heavy."""
    picture = _grey_picture(values, MASK_QUALITY)
    frames, bins = values.shape[0] // 2 * 2, values.shape[1] // 2 * 2
    if len(picture) <= HEADER_BYTES + HEAVY_BYTES_PER_BIN * values.size or not frames or not bins:
        return picture
    pairs = values[:frames, :bins].reshape(frames // 2, 2, bins // 2, 2)
    return _grey_picture(pairs.mean(axis=(1, 3)), LIGHT_QUALITY)


def _grey_picture(values: np.ndarray, quality: int) -> bytes:
    """[T, F] values in 0 .. 1 as a WebP, time to the right and frequency upwards, at most `MAX_COLUMNS` wide.

    Where several frames share a column, the largest value of each bin is shown.
    """
    frames_per_column = -(-len(values) // MAX_COLUMNS)
    starts = np.arange(0, len(values), frames_per_column)
    columns = np.maximum.reduceat(values, starts, axis=0)
    pixels = np.round(255 * np.clip(columns, 0, 1)).astype(np.uint8).T[::-1]
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, format="WEBP", quality=quality, method=4)
    return stream.getvalue()
