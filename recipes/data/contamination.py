"""Contaminated clips for in-domain and out-of-domain evaluation: another sound mixed in at a stated SNR.

The SNR is 20 log10 of the clip's L2 norm over that of what is added, both over the whole clip. What a clip
meets depends only on (seed, kind, part, clip id, epoch) and on what there is to draw from: not on the SNR,
the batch, the order or the device.

Source: F. Paissan, M. Ravanelli, C. Subakan, Listenable Maps for Audio Classifiers, ICML 2024: clips and
speech at 0.8 : 0.2 after L2 normalisation, white noise at half the clip's norm, WHAM! noise at 0 dB.
"""

import csv
import hashlib
import io
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import torch
from torch import Tensor

from models.errors import UsageError
from recipes.data.audio import SILENCE_PEAK
from recipes.data.clips import ClipBatch, ClipStore, KnownSources
from recipes.data.kinds import FOLDER_KINDS, PARTS, SNR_DB, check_contamination
from recipes.data.noise import NoiseFolder
from recipes.system.files import write_atomically

MAX_DRAWS = 100


@dataclass(frozen=True)
class GeneratedNoise:
    """Noise that is computed. source: what metrics.json calls it. draw: (generator, samples N) -> float32 [N]."""

    source: str
    draw: Callable[[np.random.Generator, int], np.ndarray]


def white_noise(rng: np.random.Generator, num_samples: int) -> np.ndarray:
    """Gaussian noise with the same power in every band."""
    return rng.standard_normal(num_samples, dtype=np.float32)


GENERATED = {"white": GeneratedNoise("Gaussian noise", white_noise)}
"""The kinds of contamination that are computed, by their names in `recipes.data.kinds.SNR_DB`."""


@dataclass(frozen=True)
class Draw:
    """What one clip meets: `waveform` float32 [N] before scaling, out of `source` from sample `offset` on.

    `clip` is its position in the corpus where it is a clip, else None.
    """

    source: str
    offset: int
    waveform: np.ndarray
    clip: int | None = None


@dataclass(frozen=True)
class Mixture:
    """A batch with something mixed in, and its two parts.

    batch: what is heard, with the clips' labels. clip, added: float32 [B, N] as they are in it, in a "mixture" the
    `ClipStore.event` of each; `added` is 0 for a silent clip. added_label: long [B], -1 where it is no labelled clip.
    """

    batch: ClipBatch
    clip: Tensor
    added: Tensor
    added_label: Tensor

    @property
    def sources(self) -> KnownSources:
        """The two clips as the sources of what is heard."""
        sounds = torch.stack((self.clip, self.added), dim=1)
        return KnownSources(self.batch.waveform, sounds, torch.stack((self.batch.label, self.added_label), dim=1))


@dataclass(frozen=True)
class ContaminationSettings:
    """What is mixed into clips, and how loud.

    kind: "clean" leaves clips alone; "mixture" adds another clip with a different label; "white" adds Gaussian noise;
    "speech" and "noise" add a crop of a file in `folder` (see `recipes.data.noise.NoiseFolder`).
    seed: of the draws. snr_db: None for the published level of the kind (`SNR_DB`).
    """

    kind: str
    seed: int
    snr_db: float | None = None
    folder: str | Path | None = None


class Contamination:
    """Mixes clips of one part of a split with another sound.

    part: "train", "valid" or "test", the part that `clips` (positions in the corpus of `store`) form. A "mixture" draws
    from these clips.

    Raises UsageError as `check_contamination` and `NoiseFolder`, and for a mixture of clips of one label.
    """

    def __init__(self, settings: ContaminationSettings, store: ClipStore, part: str, clips: Sequence[int]):
        kind, snr_db = settings.kind, settings.snr_db
        check_contamination(kind, snr_db, settings.folder)
        if part not in PARTS:
            raise ValueError(f"part is {part!r}: one of {PARTS}.")
        self.kind, self.seed = kind, int(settings.seed)
        self.store, self.part, self.clips = store, part, tuple(clips)
        self.snr_db = SNR_DB.get(kind) if snr_db is None or kind == "clean" else float(snr_db)
        self._members = frozenset(self.clips)
        self._noise = NoiseFolder(settings.folder, part, store.sample_rate) if kind in FOLDER_KINDS else None
        self._partners = self._find_partners() if kind == "mixture" else {}

    def _find_partners(self) -> dict[int, list[int]]:
        """The clips that a clip of each class may be mixed with: those of all other classes."""
        corpus = self.store.corpus.clips
        if self.store.corpus.has_several:
            raise UsageError(
                f"contamination mixture mixes clips of one label, and clips of {self.store.corpus.name} have several: "
                "choose another contamination"
            )
        # by id, so that the order in which clips are listed cannot change a draw
        ordered = sorted(self._members, key=lambda i: corpus[i].id)
        partners: dict[int, list[int]] = {corpus[index].target: [] for index in ordered}
        if len(partners) < 2:
            raise UsageError(
                f"contamination mixture needs clips of at least two labels, and the {self.part} clips have "
                f"{len(partners)}: choose other folds or another contamination."
            )
        for target, rivals in partners.items():
            for index in ordered:
                if corpus[index].target != target:
                    rivals.append(index)
        return partners

    @property
    def name(self) -> str:
        """Short label for tables, such as `mixture@12.0dB`."""
        return "clean" if self.kind == "clean" else f"{self.kind}@{self.snr_db:.1f}dB"

    def facts(self) -> dict:
        """What metrics.json tells of it: kind, snr_db (None when clean), seed, part, source."""
        return {
            "kind": self.kind,
            "snr_db": self.snr_db,
            "seed": self.seed,
            "part": self.part,
            "source": self._source(),
        }

    def _source(self) -> str | None:
        """Where what is mixed in comes from, in words; None for clean clips."""
        if self._noise is not None:
            return self._noise.description
        if self.kind in GENERATED:
            return GENERATED[self.kind].source
        return f"{self.part} clips of {self.store.corpus.name}" if self.kind == "mixture" else None

    def apply(self, batch: ClipBatch, epoch: int = 0) -> ClipBatch:
        """Mix at the SNR and bring the peak to 1 again: [B, N] -> [B, N] on its device. Evaluation: epoch 0.

        A clip whose absolute peak is below `SILENCE_PEAK` has no SNR and stays as it is.

        Raises ValueError for a clip of another part, and UsageError when `MAX_DRAWS` draws were all silent.
        """
        return batch if self.kind == "clean" else self.mix(batch, epoch).batch

    def mix(self, batch: ClipBatch, epoch: int = 0) -> Mixture:
        """As `apply`, with the two parts at their levels. Raises ValueError for kind "clean"."""
        draws = [self.draw(index, epoch) for index in batch.index.tolist()]
        clip, added = batch.waveform, _stacked([draw.waveform for draw in draws], batch)
        gain = _norm(clip) / _norm(added) * 10 ** (-self.snr_db / 20)
        audible = clip.abs().amax(dim=1, keepdim=True) >= SILENCE_PEAK
        mixed = torch.where(audible, clip + gain * added, clip)
        peak = torch.where(audible, mixed.abs().amax(dim=1, keepdim=True).clamp_min(SILENCE_PEAK), 1)
        added_label = torch.where(audible[:, 0], torch.tensor(self._labels(draws)).to(batch.label), -1)
        if self.kind == "mixture" and self.store.knows_events:
            clip = _stacked(list(map(self.store.event, batch.index.tolist())), batch)
            added = _stacked([self.store.event(draw.clip) for draw in draws], batch)
        heard = ClipBatch(mixed / peak, batch.label, batch.index)
        return Mixture(heard, clip / peak, torch.where(audible, gain * added / peak, 0), added_label)

    def _labels(self, draws: Sequence[Draw]) -> list[int]:
        """The class of what is drawn, -1 where it is no clip."""
        labels = []
        for draw in draws:
            labels.append(-1 if draw.clip is None else self.store.corpus.clips[draw.clip].target)
        return labels

    def draw(self, index: int, epoch: int = 0) -> Draw:
        """What clip `index` meets in this epoch; silent draws are repeated. Raises as `apply`."""
        if self.kind == "clean" or index not in self._members:
            raise ValueError(f"Clip {index} is not among the {self.part} clips of contamination {self.kind}.")
        clip = self.store.corpus.clips[index]
        key = json.dumps([self.seed, self.kind, self.part, clip.id, int(epoch)])
        entropy = int.from_bytes(hashlib.sha256(key.encode()).digest()[:16])
        rng = np.random.default_rng(np.random.SeedSequence(entropy))
        for _ in range(MAX_DRAWS):
            if self.kind == "mixture":
                draw = self._draw_clip(rng, clip.target)
            elif self.kind in GENERATED:
                noise = GENERATED[self.kind].draw(rng, self.store.num_samples)
                draw = Draw(f"default_rng({entropy})", 0, noise)
            else:
                crop = cast(NoiseFolder, self._noise).draw(rng, self.store.num_samples)
                draw = Draw(crop.file, crop.offset, crop.waveform)
            if not _is_silent(draw.waveform):
                return draw
        raise UsageError(
            f"contamination {self.kind} met only silence in {MAX_DRAWS} draws for clip {clip.id}: "
            f"draw from sounds with an absolute peak of at least {SILENCE_PEAK:g}."
        )

    def _draw_clip(self, rng: np.random.Generator, target: int) -> Draw:
        """A clip of another class than `target`."""
        partners = self._partners[target]
        partner = partners[rng.integers(len(partners))]
        return Draw(self.store.corpus.clips[partner].id, 0, self.store.waveform(partner), partner)

    def partner(self, index: int, epoch: int = 0) -> int:
        """Position in the corpus of the clip that a mixture adds to clip `index`. Raises as `apply`."""
        if self.kind != "mixture":
            raise ValueError(f"A clip has a partner in a mixture, not in {self.name}.")
        return self.draw(index, epoch).clip

    def write_draws(self, path: str | Path) -> None:
        """CSV of what every clip meets at epoch 0: id, source, offset, snr_db; empty where nothing is added.

        source: id of the other clip, name of the file within the folder, or the NumPy generator whose
        `standard_normal(N, dtype="float32")` is the white noise. offset: samples at the store's rate.
        """
        text = io.StringIO(newline="")
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(("id", "source", "offset", "snr_db"))
        for index in self.clips:
            clip = self.store.corpus.clips[index]
            if self.kind == "clean" or _is_silent(self.store.waveform(index)):
                writer.writerow((clip.id, "", "", ""))
            else:
                draw = self.draw(index)
                writer.writerow((clip.id, draw.source, draw.offset, self.snr_db))
        write_atomically(path, text.getvalue().encode())


def _stacked(waveforms: list[np.ndarray], batch: ClipBatch) -> Tensor:
    return torch.from_numpy(np.stack(waveforms)).to(batch.waveform)


def _norm(waveform: Tensor) -> Tensor:
    """L2 norm of each waveform of a batch: [B, N] -> [B, 1]."""
    return torch.linalg.vector_norm(waveform, dim=1, keepdim=True)


def _is_silent(waveform: np.ndarray) -> bool:
    return bool(np.abs(waveform).max() < SILENCE_PEAK)
