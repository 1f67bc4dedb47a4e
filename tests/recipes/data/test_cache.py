"""The cache of decoded clips: reused, rebuilt when damaged, safe against kills and against company."""

import json
import multiprocessing
import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile

from models.errors import UsageError
from recipes.data import cache
from recipes.data.cache import decoded_clips

RATE = 8000


@pytest.fixture
def paths(tmp_path):
    generator = np.random.default_rng(0)
    names = [tmp_path / "audio" / f"{i}.wav" for i in range(6)]
    (tmp_path / "audio").mkdir()
    for name in names:
        soundfile.write(name, generator.uniform(-0.5, 0.5, 800), RATE)
    return names


@pytest.fixture
def decodes(monkeypatch):
    """The paths that were decoded."""
    seen = []
    original = cache.decode_clip

    def spy(path, *settings):
        seen.append(path)
        return original(path, *settings)

    monkeypatch.setattr(cache, "decode_clip", spy)
    return seen


def build(paths, folder: Path):
    return decoded_clips(paths, folder, RATE, 800)


def test_rows_are_the_clips_in_order_at_full_scale(paths, tmp_path):
    samples = build(paths, tmp_path / "cache").open()
    assert samples.shape == (6, 800)
    for path, row in zip(paths, samples, strict=True):
        waveform = soundfile.read(path)[0]
        assert np.abs(row / 32767 - waveform / np.abs(waveform).max()).max() < 2e-5
    with pytest.raises(ValueError, match="read-only"):
        samples[0, 0] = 1


def test_a_second_run_decodes_and_hashes_nothing(paths, tmp_path, decodes, monkeypatch):
    first = build(paths, tmp_path / "cache")
    assert sorted(decodes) == sorted(paths)
    monkeypatch.setattr(cache, "_sha256", None)
    assert build(paths, tmp_path / "cache") == first
    assert len(decodes) == 6


def test_a_changed_file_of_the_same_size_and_time_gets_a_new_cache(paths, tmp_path):
    first = build(paths, tmp_path / "cache")
    before = paths[2].stat()
    soundfile.write(paths[2], np.full(800, 0.25), RATE)
    os.utime(paths[2], ns=(before.st_atime_ns, before.st_mtime_ns))
    assert paths[2].stat().st_size == before.st_size
    second = build(paths, tmp_path / "cache")
    assert second.key != first.key
    assert np.all(second.open()[2] == 32767)
    assert first.file.exists()


def test_settings_and_order_are_in_the_key(paths, tmp_path):
    keys = {
        decoded_clips(paths, tmp_path / "cache", RATE, 800).key,
        decoded_clips(paths, tmp_path / "cache", RATE, 400).key,
        decoded_clips(paths, tmp_path / "cache", 2 * RATE, 800).key,
        decoded_clips(paths[::-1], tmp_path / "cache", RATE, 800).key,
    }
    assert len(keys) == 4


def flip_a_byte(file: Path):
    before = file.stat()
    with file.open("r+b") as stream:
        stream.seek(4321)
        byte = stream.read(1)[0]
        stream.seek(4321)
        stream.write(bytes([byte ^ 1]))
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.mark.parametrize(
    "damage",
    [
        flip_a_byte,
        lambda file: os.truncate(file, 1000),
        lambda file: file.unlink(),
        lambda file: (file.parent / "index.json").unlink(),
        lambda file: (file.parent / "index.json").write_text("{"),
        lambda file: (file.parent / "index.json").write_text(json.dumps({"sha256": "0"})),
    ],
)
def test_a_damaged_cache_is_built_again(paths, tmp_path, decodes, damage):
    clips = build(paths, tmp_path / "cache")
    content = clips.file.read_bytes()
    damage(clips.file)
    decodes.clear()
    assert build(paths, tmp_path / "cache") == clips
    assert len(decodes) == 6
    assert clips.file.read_bytes() == content


def test_a_copied_cache_is_checked_and_kept(paths, tmp_path, decodes):
    clips = build(paths, tmp_path / "cache")
    clips.file.with_name("copy").write_bytes(clips.file.read_bytes())
    clips.file.with_name("copy").replace(clips.file)
    decodes.clear()
    build(paths, tmp_path / "cache")
    assert decodes == []


@pytest.mark.parametrize("content", ["", "[]", "{", '{"a": 1}', '{"a": [1, 2, 3]}'])
def test_a_damaged_memo_costs_only_hashing(paths, tmp_path, decodes, content):
    first = build(paths, tmp_path / "cache")
    (tmp_path / "cache" / "hashes.json").write_text(content)
    decodes.clear()
    assert build(paths, tmp_path / "cache") == first
    assert decodes == []


def test_all_unusable_files_are_named_and_nothing_is_left(paths, tmp_path):
    paths[1].write_text("no sound")
    soundfile.write(paths[4], np.full(9, np.inf), RATE, subtype="FLOAT")
    with pytest.raises(UsageError, match=r"2 of 6 files.*1\.wav cannot be decoded.*4\.wav holds NaN or infinite"):
        build(paths, tmp_path / "cache")
    assert sorted(path.name for path in (tmp_path / "cache").iterdir()) == [".lock", "hashes.json"]
    paths[0].unlink()
    with pytest.raises(UsageError, match=r"1 of 6 files.*0\.wav"):
        build(paths, tmp_path / "cache")


def test_a_cache_folder_that_cannot_be_made_is_named(paths, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match=r"file/cache cannot be written"):
        build(paths, tmp_path / "file" / "cache")


def _slow_build(paths, folder, started, log, seconds):
    original = cache.decode_clip

    def slow(path, *settings):
        started.set()
        time.sleep(seconds)
        with Path(log).open("a") as file:
            file.write("decoded\n")
        return original(path, *settings)

    cache.decode_clip = slow
    decoded_clips(paths, folder, RATE, 800, workers=1)


def test_two_runs_that_start_together_build_once(paths, tmp_path):
    context = multiprocessing.get_context("fork")
    log, started = tmp_path / "log", context.Event()
    log.touch()
    runs = [context.Process(target=_slow_build, args=(paths, tmp_path / "cache", started, log, 0.05)) for _ in range(2)]
    for run in runs:
        run.start()
    for run in runs:
        run.join()
    assert [run.exitcode for run in runs] == [0, 0]
    assert log.read_text().count("decoded") == 6


def test_a_killed_run_leaves_no_half_cache(paths, tmp_path, decodes):
    context = multiprocessing.get_context("fork")
    started = context.Event()
    run = context.Process(target=_slow_build, args=(paths, tmp_path / "cache", started, tmp_path / "log", 60))
    run.start()
    assert started.wait(10)
    os.kill(run.pid, signal.SIGKILL)
    run.join()
    assert len(list((tmp_path / "cache").glob(".building-*"))) == 1
    clips = build(paths, tmp_path / "cache")
    assert len(decodes) == 6
    assert np.abs(clips.open()).max(axis=1).tolist() == [32767] * 6
    assert list((tmp_path / "cache").glob(".building-*")) == []


def test_sounds_that_deceive_are_counted_at_every_start(paths, tmp_path, caplog):
    soundfile.write(paths[1], np.zeros(800), RATE)
    soundfile.write(paths[4], np.zeros(800), RATE)
    for _ in range(2):
        caplog.clear()
        build(paths, tmp_path / "cache")
        assert caplog.messages[0] == "2 of 6 sound files hold digital silence: 1.wav, 4.wav"


def test_a_cache_that_counted_no_faults_is_built_again(paths, tmp_path, caplog, decodes):
    soundfile.write(paths[1], np.zeros(800), RATE)
    clips = build(paths, tmp_path / "cache")
    (clips.file.parent / "faults.json").unlink()
    caplog.clear()
    decodes.clear()
    assert build(paths, tmp_path / "cache") == clips
    assert len(decodes) == 6
    assert "of an earlier version: it has been built again" in caplog.messages[0]
    assert caplog.messages[1] == "1 of 6 sound files hold digital silence: 1.wav"
