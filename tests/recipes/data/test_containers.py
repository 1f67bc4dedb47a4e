"""Length is what decodes: headers that give no length, too small a one, or one that the content does not hold."""

import io
import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile

from models.errors import UsageError
from recipes.data.audio import SoundReader, load_audio, read_audio, resample, resample_blocks
from recipes.data.containers import PatchedFile
from recipes.data.noise import NoiseFolder

RATE = 16000
SAMPLES = 2 * RATE
TONE = 0.5 * np.sin(2 * np.pi * 500 * np.arange(SAMPLES) / RATE).astype(np.float32)


def encoded(kind: str, subtype: str | None = None, wave: np.ndarray = TONE, rate: int = RATE, **options) -> bytes:
    stream = io.BytesIO()
    soundfile.write(stream, wave, rate, format=kind, subtype=subtype, **options)
    return stream.getvalue()


def replaced(content: bytes, place: int, number: int, order: str = "<I") -> bytes:
    field = struct.pack(order, number)
    return content[:place] + field + content[place + len(field) :]


def file(folder: Path, name: str, content: bytes) -> Path:
    (folder / name).write_bytes(content)
    return folder / name


def flac_of_length(total: int) -> bytes:
    content = encoded("FLAC")
    field = int.from_bytes(content[18:26], "big") >> 36 << 36 | total
    return content[:18] + field.to_bytes(8, "big") + content[26:]


def wav_of_size(size: int) -> bytes:
    return replaced(encoded("WAV"), 40, size)


def aiff_of_size(size: int) -> bytes:
    content = encoded("AIFF")
    return replaced(content, content.index(b"SSND") + 4, size + 8, ">I")


def au_of_size(size: int) -> bytes:
    return replaced(encoded("AU"), 8, size, ">I")


@pytest.mark.parametrize(
    ("content", "remark"),
    [
        (wav_of_size(0), "its header gives 0 bytes of sound and it holds 64000: all of it is used"),
        (wav_of_size(SAMPLES), "its header gives 32000 bytes of sound and it holds 64000: all of it is used"),
        (wav_of_size(2 * SAMPLES + 44), "its header gives 64044 bytes of sound and it holds 64000: all of it is used"),
        (replaced(wav_of_size(SAMPLES), 4, SAMPLES + 36), "its header gives 32000 bytes of sound and it holds 64000"),
        (aiff_of_size(0), "its header gives 0 bytes of sound and it holds 64000: all of it is used"),
        (aiff_of_size(SAMPLES), "its header gives 32000 bytes of sound and it holds 64000: all of it is used"),
        (au_of_size(0), "its header gives 0 bytes of sound and it holds 64000: all of it is used"),
        (au_of_size(SAMPLES), "its header gives 32000 bytes of sound and it holds 64000: all of it is used"),
        (flac_of_length(SAMPLES // 2), "its header gives 1.00 s and it holds 2.00 s: all of it is used"),
    ],
    ids=["wav 0", "wav half", "wav file size", "wav both half", "aiff 0", "aiff half", "au 0", "au half", "flac half"],
)
def test_a_file_is_decoded_to_its_end_and_its_header_is_told(tmp_path, content, remark):
    audio = read_audio(file(tmp_path, "sound", content))
    assert audio.waveform.shape == (1, SAMPLES)
    assert np.abs(audio.waveform[0] - TONE).max() < 1e-4
    (fault,) = audio.faults
    assert fault.kind == "length"
    assert fault.clause.startswith(remark)


@pytest.mark.parametrize(
    "content",
    [
        flac_of_length(0),
        au_of_size(0xFFFFFFFF),
        wav_of_size(0xFFFFFFFF),
        encoded("WAV") + b"LIST" + struct.pack("<I", 600) + bytes(range(1, 201)) * 3,
        encoded("WAV") + b"TAG" + b"title" * 500,
        encoded("WAV") + bytes(4096),
        encoded("WAV") + b"\r\n",
    ],
    ids=["flac stream", "au stream", "wav stream", "chunk after", "tag after", "zeros after", "line end after"],
)
def test_what_follows_the_sound_or_a_length_not_given_is_no_disagreement(tmp_path, content):
    audio = read_audio(file(tmp_path, "sound", content))
    assert audio.waveform.shape == (1, SAMPLES)
    assert audio.faults == ()


@pytest.mark.parametrize(
    "content",
    [flac_of_length(2 * SAMPLES), wav_of_size(2 * SAMPLES)[:40000], aiff_of_size(2 * SAMPLES)[:40000]],
    ids=["flac", "wav", "aiff"],
)
def test_a_header_that_promises_more_is_refused(tmp_path, content):
    with pytest.raises(UsageError, match="is cut off"):
        read_audio(file(tmp_path, "sound", content))


RATES = (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)


def mp3(mode: str, seconds: int = 5, channels: int = 1) -> tuple[bytes, bytes]:
    """Silence, then noise, as an MP3 with its length tag and without."""
    rate = 44100
    noise = np.random.default_rng(0).standard_normal((seconds * rate, channels))
    wave = np.where(np.arange(len(noise))[:, None] < len(noise) // 2, 0.001, 0.1) * noise
    options = {"bitrate_mode": mode, "compression_level": 0.4}
    content = encoded("MP3", "MPEG_LAYER_III", wave, rate, **options)
    header = content[content.index(b"\xff\xfb") :]
    return content, header[144 * RATES[header[2] >> 4] * 1000 // rate + (header[2] >> 1 & 1) :]


@pytest.mark.parametrize("mode", ["VARIABLE", "AVERAGE", "CONSTANT"])
@pytest.mark.parametrize("channels", [1, 2])
def test_an_mp3_without_its_length_tag_is_decoded_to_its_end(tmp_path, mode, channels):
    tagged, untagged = mp3(mode, channels=channels)
    whole = read_audio(file(tmp_path, "tagged.mp3", tagged))
    assert whole.waveform.shape == (channels, 220500)
    assert whole.faults == ()
    bare = read_audio(file(tmp_path, "untagged.mp3", untagged))
    # the encoder's delay and padding are not cut off: the tag would have told them
    assert bare.waveform.shape == (channels, 221807)
    assert np.abs(bare.waveform[:, 100_576:200_576] - whole.waveform[:, 100_000:200_000]).max() < 1e-6


def test_an_mp3_behind_another_or_behind_a_title_is_decoded_to_its_end(tmp_path):
    tagged, untagged = mp3("VARIABLE", seconds=2)
    joined = read_audio(file(tmp_path, "joined.mp3", tagged + tagged))
    assert joined.waveform.shape[1] > 2 * 88200
    assert joined.faults[0].clause.startswith("its header gives 2.00 s and it holds 4.0")
    title = b"ID3\x03\x00\x00" + bytes([0, 0, 2, 0]) + b"\x00" * 256
    titled = read_audio(file(tmp_path, "titled.mp3", title + untagged))
    assert titled.waveform.shape == read_audio(file(tmp_path, "bare.mp3", untagged)).waveform.shape


def test_an_mp3_that_ends_before_its_tag_says_is_refused(tmp_path):
    tagged, _ = mp3("CONSTANT", seconds=2)
    with pytest.raises(UsageError, match=r"cut\.mp3 is cut off \(\d+ of 88200 samples\)"):
        read_audio(file(tmp_path, "cut.mp3", tagged[: len(tagged) // 2]))


@pytest.mark.parametrize("subtype", ["VORBIS", "OPUS"])
def test_all_streams_of_an_ogg_file_are_decoded(tmp_path, subtype):
    once = encoded("OGG", subtype)
    audio = read_audio(file(tmp_path, "twice.ogg", once + once))
    single = read_audio(file(tmp_path, "once.ogg", once))
    assert audio.faults == single.faults == ()
    assert np.array_equal(audio.waveform, np.concatenate([single.waveform] * 2, axis=1))


def test_an_ogg_file_without_its_last_page_is_told(tmp_path):
    content = encoded("OGG", "OPUS")
    audio = read_audio(file(tmp_path, "cut.ogg", content[: content.rindex(b"OggS")]))
    assert 0 < audio.waveform.shape[1] < SAMPLES
    assert audio.faults[0].clause == "its last page is missing: it may be cut off"


def test_streams_of_two_rates_in_one_file_are_refused(tmp_path):
    other = encoded("OGG", "VORBIS", rate=22050)
    with pytest.raises(UsageError, match="changes its rate or number of channels on the way"):
        read_audio(file(tmp_path, "two.ogg", encoded("OGG", "VORBIS") + other))


def test_a_patched_file_reads_as_if_it_held_other_bytes(tmp_path):
    path = file(tmp_path, "bytes", bytes(range(20)))
    patched = PatchedFile(path, {5: b"\xaa\xbb"}, start=4, stop=10, prefix=b"xyz")
    assert patched.read() == b"xyz\x04\xaa\xbb\x07\x08\x09"
    assert (patched.seek(-5, io.SEEK_END), patched.read(2)) == (4, b"\xaa\xbb")
    assert (patched.seek(1), patched.read(3), patched.tell()) == (1, b"yz\x04", 4)


@pytest.mark.parametrize(("from_rate", "to_rate"), [(44100, 16000), (8000, 16000), (16001, 16000), (48000, 16000)])
def test_resampling_in_blocks_equals_resampling_at_once(monkeypatch, from_rate, to_rate):
    monkeypatch.setattr("recipes.data.audio._BLOCK", 3000)
    wave = np.random.default_rng(0).standard_normal(100_000).astype(np.float32)
    blocks = np.split(wave, [1, 700, 20_000, 20_001, 90_000])
    joined = np.concatenate(list(resample_blocks(iter(blocks), from_rate, to_rate)))
    whole = resample(wave, from_rate, to_rate)
    assert joined.shape == whole.shape
    assert np.abs(joined - whole).max() < 1e-6


def test_faults_do_not_depend_on_blocks_and_come_with_the_loaded_clip(tmp_path, monkeypatch):
    wave = np.stack([TONE, -TONE], axis=1)
    soundfile.write(tmp_path / "opposite.wav", wave, RATE)
    whole = read_audio(tmp_path / "opposite.wav").faults
    monkeypatch.setattr("recipes.data.audio._BLOCK", 1000)
    reader = SoundReader(tmp_path / "opposite.wav")
    assert sum(block.shape[1] for block in reader.blocks()) == SAMPLES
    assert reader.faults == whole == load_audio(tmp_path / "opposite.wav", 8000, 0.1).faults
    assert [fault.kind for fault in whole] == ["cancelling"]


@pytest.mark.parametrize("content", [wav_of_size(SAMPLES), flac_of_length(0), encoded("OGG", "VORBIS") * 2])
def test_noise_whose_header_gives_another_length_is_refused(tmp_path, content):
    """Crops are read from the middle of noise, so its length must be known beforehand."""
    file(tmp_path, "noise.wav", content)
    with pytest.raises(UsageError, match=r"noise\.wav has a header that gives no length, or another than the file"):
        NoiseFolder(tmp_path, "test", RATE)
