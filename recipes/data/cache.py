"""Decode every clip once: a flat int16 file that later runs map into memory.

Layout: `<cache folder>/<key>/samples.i16` ([clips, num_samples], native byte order) and `index.json`. The key
hashes the content of every sound file and the settings, so it does not depend on where the files lie, and a
changed file or setting gets a new folder. `hashes.json` remembers content hashes by path, size and times.
"""

import hashlib
import json
import logging
import os
import shutil
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from models.errors import UsageError
from recipes.data.audio import load_audio, prepare_window, to_int16
from recipes.data.signals import FAULTS, Fault
from recipes.system.files import exclusive_lock, name_some, unwritable, write_atomically
from recipes.system.threads import refuse_failures, run_all

logger = logging.getLogger(__name__)

FORMAT = 1
"""Raise this when decoding, resampling or normalising changes: older caches are then left alone."""

MP3_FORMAT = 2
"""`FORMAT` of sets with MP3 files, which earlier caches cut short where they had no length tag."""

_BUILDING = ".building-"
_FAULTS = "faults.json"
_EXAMPLES = 3


@dataclass(frozen=True)
class DecodedClips:
    """A finished cache: `file` holds int16 [count, num_samples]; `key` names its content and settings.

    digests: SHA-256 (hex) of every clip's sound file.
    """

    file: Path
    key: str
    count: int
    num_samples: int
    digests: tuple[str, ...]

    @property
    def row_bytes(self) -> int:
        """The size of one clip."""
        return self.num_samples * np.dtype(np.int16).itemsize

    def open(self) -> np.ndarray:
        """Read-only memory map, int16 [count, num_samples]."""
        return np.memmap(self.file, dtype=np.int16, mode="r", shape=(self.count, self.num_samples))


@dataclass(frozen=True)
class DecodedClip:
    """One clip, int16 [num_samples], and what is wrong with the sound of its file."""

    samples: np.ndarray
    faults: tuple[Fault, ...]


def decode_clip(path: Path, sample_rate: int, num_samples: int) -> DecodedClip:
    """One file as a clip: mono, resampled, and prepared as `prepare_window` does."""
    audio = load_audio(path, sample_rate, num_samples / sample_rate)
    return DecodedClip(to_int16(prepare_window(audio.waveform[0], num_samples)), audio.faults)


def decoded_clips(
    paths: Sequence[Path],
    cache_folder: str | Path,
    sample_rate: int,
    num_samples: int,
    workers: int | None = None,
) -> DecodedClips:
    """Return the cache of `paths` at these settings; build it first when it is not there or is damaged.

    Runs that start together build once: the others wait on a lock. A build goes to a temporary folder that is
    renamed at the end, and what a killed run left is removed by the next one that builds. How many files have a fault
    of `signals.FAULTS` is logged every time, with examples.

    Raises UsageError naming all the files that cannot be read, or when the folder is not writable or full.
    """
    cache_folder = Path(cache_folder)
    workers = workers or os.cpu_count() or 1
    with exclusive_lock(cache_folder / ".lock"):
        memo = HashMemo(cache_folder / "hashes.json")
        digests = memo.digests(paths, workers)
        settings = {"format": FORMAT, "sample_rate": sample_rate, "num_samples": num_samples}
        if any(path.suffix.lower() == ".mp3" for path in paths):
            settings["mp3"] = MP3_FORMAT
        key = hashlib.sha256(json.dumps([settings, digests]).encode()).hexdigest()[:32]
        folder = cache_folder / key
        clips = DecodedClips(folder / "samples.i16", key, len(paths), num_samples, tuple(digests))
        if not _is_intact(clips, memo):
            for leftover in cache_folder.glob(_BUILDING + "*"):
                shutil.rmtree(leftover)
            _build(paths, clips, sample_rate, workers)
            memo.digests([clips.file], workers)
    _log_faults(clips, paths)
    return clips


class HashMemo:
    """SHA-256 of files, remembered in a JSON file by path, size and modification and change times.

    The change time catches a file that was replaced by one of the same size and modification time, as archive
    tools do. An unreadable memo is an empty one: hashing again is all it costs.
    """

    def __init__(self, file: Path):
        self.file = file
        try:
            entries = json.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            entries = None
        self._entries: dict[str, list] = entries if isinstance(entries, dict) else {}

    def digests(self, paths: Sequence[Path], workers: int) -> list[str]:
        """SHA-256 (hex) of each file. Raises UsageError naming all the files that cannot be read."""
        folder = str(Path.cwd())
        names = [os.path.join(folder, path) for path in paths]  # noqa: PTH118 (five times as fast as Path.absolute)
        stamps = _stamps(paths)
        changed, changed_paths = [], []
        for path, name, stamp in zip(paths, names, stamps, strict=True):
            if self._entries.get(name, [])[:3] != stamp:
                changed.append((name, stamp))
                changed_paths.append(path)
        fresh = run_all(_sha256, changed_paths, workers, "prepare: hash files")
        for (name, stamp), digest in zip(changed, fresh, strict=True):
            self._entries[name] = [*stamp, digest]
        if changed:
            write_atomically(self.file, json.dumps(self._entries).encode())
        return [self._entries[name][3] for name in names]


def _build(paths: Sequence[Path], clips: DecodedClips, sample_rate: int, workers: int) -> None:
    folder = clips.file.parent
    _check_room(folder.parent, len(paths) * clips.row_bytes)
    building = folder.with_name(_BUILDING + folder.name)
    building.mkdir()
    try:
        faults = _decode_into(building / clips.file.name, paths, clips, sample_rate, workers)
        write_atomically(building / _FAULTS, json.dumps(_rows_by_kind(faults)).encode())
        index = {**_index(clips), "sha256": _sha256(building / clips.file.name)}
        write_atomically(building / "index.json", json.dumps(index).encode())
        if folder.exists():
            logger.warning("The cache %s was damaged or of an earlier version: it has been built again.", folder)
            shutil.rmtree(folder)
        building.replace(folder)
    except OSError as error:
        raise unwritable(clips.file, error) from error
    finally:
        shutil.rmtree(building, ignore_errors=True)


def _check_room(folder: Path, needed: int) -> None:
    """Raise UsageError when a folder's disk has not that many bytes free."""
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise UsageError(
            f"The cache needs {needed / 1e6:.0f} MB and {folder} has {free / 1e6:.0f} MB free: "
            "make room or choose another cache folder."
        )


def _decode_into(
    target: Path, paths: Sequence[Path], clips: DecodedClips, sample_rate: int, workers: int
) -> list[tuple[Fault, ...]]:
    """Write the clips, one after another, into a file; returns the faults of each."""
    writing = threading.Lock()  # os.pwrite would need none, but Windows does not have it
    with target.open("wb") as file:

        def decode(row: int) -> tuple[Fault, ...]:
            clip = decode_clip(paths[row], sample_rate, clips.num_samples)
            # straight to its place: memory holds one clip a thread, whatever the size of the set
            with writing:
                file.seek(row * clips.row_bytes)
                file.write(clip.samples.tobytes())
            return clip.faults

        faults = run_all(decode, range(len(paths)), workers, "prepare: decode clips")
        file.flush()
        os.fsync(file.fileno())
    return faults


def _rows_by_kind(faults: Sequence[tuple[Fault, ...]]) -> dict[str, list[int]]:
    """For each kind of fault, the clips that have it."""
    rows = {kind: [] for kind in FAULTS}
    for row, found_in_clip in enumerate(faults):
        for fault in found_in_clip:
            rows[fault.kind].append(row)
    return rows


def _log_faults(clips: DecodedClips, paths: Sequence[Path]) -> None:
    """One warning for every kind of fault: how many files have it, and a few of their names."""
    try:
        rows_by_kind = json.loads((clips.file.parent / _FAULTS).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        logger.warning("%s cannot be read (%s): faults of sounds are not told.", clips.file.parent / _FAULTS, error)
        return
    for kind, rows in rows_by_kind.items():
        if rows:
            names = name_some([paths[row].name for row in rows], _EXAMPLES)
            logger.warning("%d of %d sound files %s: %s", len(rows), clips.count, FAULTS[kind], names)


def _index(clips: DecodedClips) -> dict:
    return {"key": clips.key, "clips": clips.count, "num_samples": clips.num_samples}


def _is_intact(clips: DecodedClips, memo: HashMemo) -> bool:
    try:
        if not (clips.file.parent / _FAULTS).is_file():  # of an earlier version, which did not look for faults
            return False
        index = json.loads((clips.file.parent / "index.json").read_text(encoding="utf-8"))
        return index == {**_index(clips), "sha256": memo.digests([clips.file], workers=1)[0]}
    except (OSError, ValueError):
        return False


def _stamps(paths: Sequence[Path]) -> list[list[int]]:
    """Size, modification time and change time of each file. Raises UsageError naming those that cannot be read."""
    stamps, failures = [], []
    for path in paths:
        try:
            status = path.stat()
        except (FileNotFoundError, PermissionError) as error:
            failures.append(error)
        else:
            stamps.append([status.st_size, status.st_mtime_ns, status.st_ctime_ns])
    refuse_failures(failures, len(paths))
    return stamps


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
