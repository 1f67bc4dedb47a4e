"""Clips as waveforms in batches: decoded once, mapped into memory, stacked for a network."""

import hashlib
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from models.errors import UsageError
from models.labels import NO_CLASS
from recipes.data.audio import SILENCE_PEAK, fit_length, from_int16, load_mono
from recipes.data.cache import DecodedClips
from recipes.data.corpus import Corpus, indices

logger = logging.getLogger(__name__)


def short_hash(digest: str) -> str:
    """16 hexadecimal digits of a SHA-256: enough to tell apart the clips of a data set."""
    return digest[:16]


@dataclass(frozen=True)
class KnownSources:
    """What B sounds are made of.

    heard: [B, N]. sounds: [B, S, N] at their level in it. labels: long [B, S], `NO_CLASS` where a sound is of none.
    """

    heard: Tensor
    sounds: Tensor
    labels: Tensor

    def __getitem__(self, rows: Tensor) -> "KnownSources":
        return KnownSources(self.heard[rows], self.sounds[rows], self.labels[rows])

    def to(self, device: torch.device | str) -> "KnownSources":
        return KnownSources(self.heard.to(device), self.sounds.to(device), self.labels.to(device))


@dataclass
class ClipStore:
    """The clips of a corpus as waveforms from the cache: nothing is decoded or resampled after `prepare`.

    A store is small and travels to loader processes; each maps the same file into memory.
    """

    corpus: Corpus
    sample_rate: int
    decoded: DecodedClips = field(repr=False)

    @property
    def num_samples(self) -> int:
        return self.decoded.num_samples

    @property
    def content_hash(self) -> str:
        """Hex digest of the sound files and the settings of their decoding, not of labels and folds."""
        return self.decoded.key

    def clip_hash(self, i: int) -> str:
        """`short_hash` of the content of clip i's sound file."""
        return short_hash(self.decoded.digests[i])

    def samples_hash(self, i: int) -> str | None:
        """`short_hash` of the decoded samples of clip i, whatever file they came in; None for digital silence."""
        samples = self._samples[i]
        return short_hash(hashlib.sha256(samples.tobytes()).hexdigest()) if samples.any() else None

    @cached_property
    def _samples(self) -> np.ndarray:
        return self.decoded.open()

    def __getstate__(self) -> dict:
        # a pickled memory map would carry every sample with it
        state = dict(self.__dict__)
        state.pop("_samples", None)
        return state

    def __len__(self) -> int:
        return len(self.corpus.clips)

    def waveform(self, i: int) -> np.ndarray:
        """Clip i of the corpus, float32 [num_samples], absolute peak 1 (silence is left as it is)."""
        return from_int16(self._samples[i])

    @cached_property
    def truth_folder(self) -> Path | None:
        """Where the corpus has each clip's event alone, under its file name (see `recipes.synthetic`), or None."""
        sounds = self.corpus.clips[0].path.parent
        folder = sounds.parent / "truth"
        return folder if sounds.name == "audio" and folder.is_dir() else None

    @property
    def knows_events(self) -> bool:
        """Whether the corpus knows more of some clip's event than that the clip holds it."""
        return self.truth_folder is not None or self.corpus.has_events

    def event(self, i: int) -> np.ndarray:
        """The sound in clip i that its label names, float32 [num_samples] at its level in `waveform`.

        The event alone where the corpus holds it, else the clip with zeros outside its annotated events, and the whole
        clip where it has none.
        """
        clip = self.corpus.clips[i]
        if self.truth_folder is not None and (self.truth_folder / clip.path.name).is_file():
            event = self._decode(self.truth_folder / clip.path.name)
            peak = np.abs(self._decode(clip.path)).max()
            return event / peak if peak >= SILENCE_PEAK else event
        waveform = self.waveform(i)
        if not clip.events:
            return waveform
        event = np.zeros_like(waveform)
        for span in clip.events:
            inside = slice(round(span.start * self.sample_rate), round(span.end * self.sample_rate))
            event[inside] = waveform[inside]
        return event

    def sources(self, i: int) -> list[tuple[int, np.ndarray]]:
        """The known sources in clip i: class index and sound, float32 [num_samples] at its level in `waveform`."""
        clip = self.corpus.clips[i]
        if not clip.sources:
            return []
        peak = np.abs(self._decode(clip.path)).max()
        sources = []
        for target, path in zip(clip.targets, clip.sources, strict=True):
            if path is not None:
                sound = self._decode(path)
                sources.append((target, sound / peak if peak >= SILENCE_PEAK else sound))
        return sources

    def _decode(self, path: Path) -> np.ndarray:
        seconds = self.num_samples / self.sample_rate
        return fit_length(load_mono(path, self.sample_rate, seconds), self.num_samples)


@dataclass(frozen=True)
class ClipItem:
    """One clip of a `ClipDataset`: `index` is its position in the corpus, `label` the class index of its one label.

    A clip of several labels has `NO_CLASS` there: `Corpus.truth` knows them.
    """

    waveform: np.ndarray
    label: int
    index: int


@dataclass
class ClipBatch:
    """waveform float32 [B, N], label long [B] as `ClipItem` has it, index long [B] (positions in the corpus)."""

    waveform: Tensor
    label: Tensor
    index: Tensor

    def __len__(self) -> int:
        return len(self.label)

    def to(self, device: torch.device | str, non_blocking: bool = False) -> "ClipBatch":
        return self._each(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> "ClipBatch":
        return self._each(Tensor.pin_memory)

    def _each(self, function: Callable[[Tensor], Tensor]) -> "ClipBatch":
        return ClipBatch(function(self.waveform), function(self.label), function(self.index))


def known_sources(store: ClipStore, batch: ClipBatch) -> KnownSources:
    """The sources of clips as they are; silence of no class where a clip has fewer than another."""
    of_clips = [store.sources(i) for i in batch.index.tolist()]
    most = max(map(len, of_clips))
    sounds = torch.zeros(len(batch), most, batch.waveform.shape[1])
    labels = torch.full((len(batch), most), NO_CLASS)
    for row, sources in enumerate(of_clips):
        for number, (target, sound) in enumerate(sources):
            sounds[row, number] = torch.from_numpy(sound)
            labels[row, number] = target
    return KnownSources(batch.waveform, sounds, labels)


class ClipDataset(Dataset):
    """The clips of `store` at these positions of the corpus; use with `collate`."""

    def __init__(self, store: ClipStore, indices: Sequence[int]):
        self.store = store
        self.indices = list(indices)

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, position: int) -> ClipItem:
        index = self.indices[position]
        clip = self.store.corpus.clips[index]
        label = NO_CLASS if len(clip.targets) > 1 else clip.target
        return ClipItem(self.store.waveform(index), label, index)


def collate(items: Sequence[ClipItem]) -> ClipBatch:
    """Stack items into a batch."""
    waveforms = [item.waveform for item in items]
    return ClipBatch(
        waveform=torch.from_numpy(np.stack(waveforms)),
        label=torch.tensor([item.label for item in items]),
        index=torch.tensor([item.index for item in items]),
    )


def loader_options(batch_size: int, shuffle: bool = False) -> dict:
    """DataLoader options that let the loader make the batches."""
    return {"batch_size": batch_size, "shuffle": shuffle, "drop_last": shuffle} | batch_options()


def batch_options() -> dict:
    """DataLoader options of any batches: clips come from one memory map, so worker processes would only add a copy."""
    return {"collate_fn": collate, "pin_memory": torch.cuda.is_available()}


def fold_set(store: ClipStore, folds: tuple[int, ...], batch_size: int, training: bool = False) -> ClipDataset:
    """The clips of some folds. Raises UsageError when a training set cannot fill one batch."""
    dataset = ClipDataset(store, indices(store.corpus, folds))
    if training and len(dataset) < batch_size:
        raise UsageError(f"batch_size={batch_size} is larger than the {len(dataset)} training clips; make it smaller")
    return dataset
