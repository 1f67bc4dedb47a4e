"""Clips of a run as its classifier hears them, clean or mixed at 0 dB: what masks of fixed areas are scored on."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import BatchSampler, DataLoader

from interpreters.ground_truth import Truth
from interpreters.removal import noise_floor
from models.classifier import AudioClassifier
from models.frontend import Spectrogram
from recipes.data.clips import ClipBatch, ClipDataset, collate, short_hash
from recipes.data.contamination import Contamination, ContaminationSettings
from recipes.scoring.fixed_area import Heard
from recipes.system.parallel import Share

if TYPE_CHECKING:
    from recipes.runs.run import InterpreterRun

OTHER_DRAW = 1  # the draw of `Contamination` that fills masks; draw 0 is what mixtures are made of


@dataclass(frozen=True)
class HeardClips:
    """The clips on which explanations of a run's classifier are scored.

    part: of the run's split, "test" or "valid". chosen: positions in the corpus.
    """

    run: "InterpreterRun"
    part: str
    chosen: Sequence[int]

    @property
    def classifier(self) -> AudioClassifier:
        return self.run.subject.classifier

    @property
    def seed(self) -> int:
        return self.run.values["seed"]

    @property
    def content(self) -> str:
        """A hash of the sounds and labels of all clips of the part, out of which mixtures and fillings are drawn."""
        store, about = self.run.store, []
        for index in self.run.clips(self.part):
            clip = store.corpus.clips[index]
            about.append((clip.id, clip.label, store.clip_hash(index)))
        return short_hash(hashlib.sha256(json.dumps(sorted(about)).encode()).hexdigest())

    def batches(self, kind: str, with_fillings: bool = True) -> Iterator[tuple[ClipBatch, Heard]]:
        """The clips that this process has, and what the classifier hears of them.

        kind: one of `KINDS_OF_CLIPS`. with_fillings: whether what may take the place of removed bins is wanted.
        """
        settings = ContaminationSettings("mixture", self.seed, snr_db=0.0)
        mixing = Contamination(settings, self.run.store, self.part, self.run.clips(self.part))
        dataset = ClipDataset(self.run.store, self.chosen)
        whole = BatchSampler(range(len(dataset)), self.run.values["eval_batch_size"], drop_last=False)
        for batch in DataLoader(dataset, batch_sampler=Share(list(whole), within=False), collate_fn=collate):
            yield batch, self._heard(batch, kind, mixing, with_fillings)

    @torch.no_grad()
    def _heard(self, batch: ClipBatch, kind: str, mixing: Contamination, with_fillings: bool) -> Heard:
        sources = None if kind == "clean" else mixing.mix(batch).sources.to(self.run.device)
        waveform = batch.waveform.to(self.run.device) if sources is None else sources.heard
        spectrogram = self.classifier.frontend.analyze(waveform)
        evidence = self.classifier(spectrogram)
        fillings = self._fillings(batch, mixing, waveform, spectrogram) if with_fillings else {}
        truth = None
        if sources is not None:
            frontend, prediction = self.classifier.frontend, evidence.prediction
            truth = Truth.of(frontend, sources.heard, sources.sounds, sources.labels, prediction)
        return Heard(spectrogram, evidence, fillings, truth)

    def _fillings(
        self, batch: ClipBatch, mixing: Contamination, waveform: Tensor, spectrogram: Spectrogram
    ) -> dict[str, Spectrogram]:
        rivals = _rivals(batch, mixing, waveform)
        return {
            "noise_floor": noise_floor(spectrogram, self.seed),
            "another_clip": self.classifier.frontend.analyze(rivals),
        }


def _rivals(batch: ClipBatch, mixing: Contamination, waveform: Tensor) -> Tensor:
    """[B, N] a clip of another class for each clip, as loud as its waveform [N] (by the L2 norm)."""
    drawn = []
    for index in batch.index.tolist():
        drawn.append(mixing.draw(index, OTHER_DRAW).waveform)
    rivals = torch.from_numpy(np.stack(drawn)).to(waveform)
    wanted = torch.linalg.vector_norm(waveform, dim=1, keepdim=True)
    return rivals * wanted / torch.linalg.vector_norm(rivals, dim=1, keepdim=True)
