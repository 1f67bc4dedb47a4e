"""How much an interpreter's binary masks know beyond loudness: the validation score that may choose its epoch.

A training loss of soft masks falls on while the masks that are cut from them serve the classifier no better
(docs/masks.md), so the loss may choose the wrong epoch.
"""

from pathlib import Path
from typing import TYPE_CHECKING

from torch import Tensor

from interpreters.base import Interpreter
from interpreters.fixed_area import top_share
from recipes.runs.results import read_rows
from recipes.scoring.fixed_area import HEADLINE, KINDS_OF_CLIPS, score_map, score_mask
from recipes.system.files import csv_of, write_atomically

if TYPE_CHECKING:
    from recipes.runs.heard_clips import HeardClips

MASK_GAIN = "mask_gain"
PARTS = ("ad_gain", "fa_gain", "pointing")
CURVE_FILE = "mask_gain.csv"
"""In a run's folder: the gain and its parts, by epoch and by the step in it after which they were scored."""


class MaskGain:
    """What the masks of an interpreter gain on some clips, epoch after epoch.

    Masks of `HEADLINE` of the plane, with silence in the rest, are held against the loudest bins of that area, on clean
    clips and on mixtures at 0 dB. What the classifier says of the loudest bins is the same in every epoch, and asked
    for once.

    clips: of which each process has a share.
    """

    def __init__(self, clips: "HeardClips"):
        self.clips = clips
        self._of_loudest: dict[tuple[str, int], dict[str, Tensor]] = {}  # by the kind of clips and the batch

    def columns(self, interpreter: Interpreter) -> dict[str, list[float]]:
        """By the name of a part of the gain, its values on this process's share of the clips.

        ad_gain: by how much less the probability drops under what is kept, as a share of it. fa_gain: by how much more
        it falls where the mask is removed. pointing: of the mixtures whose source is known, 1 where the map's largest
        value lies on it.
        """
        classifier = self.clips.classifier
        columns: dict[str, list[float]] = {name: [] for name in PARTS}
        for kind in KINDS_OF_CLIPS:
            for number, (_, heard) in enumerate(self.clips.batches(kind, with_fillings=False)):
                importance = interpreter.importance(classifier, heard.spectrogram, heard.evidence).detach().float()
                own = score_mask(classifier, heard, top_share(importance, HEADLINE), "silence")
                if (kind, number) not in self._of_loudest:
                    loudest = top_share(heard.spectrogram.log_magnitude, HEADLINE)
                    self._of_loudest[kind, number] = score_mask(classifier, heard, loudest, "silence")
                control = self._of_loudest[kind, number]
                columns["ad_gain"] += ((control["ad"] - own["ad"]) / 100).tolist()
                columns["fa_gain"] += (own["fa"] - control["fa"]).tolist()
                if heard.truth is not None:
                    pointing = score_map(heard, importance)["pointing"]
                    columns["pointing"] += pointing[heard.truth.known].tolist()
        return columns


def mean_gain(columns: list[dict[str, list[float]]]) -> dict[str, float]:
    """The mean of every part over the columns of all processes, and their sum under `MASK_GAIN`.

    Pointing is 0 where the classifier recognises no source at all.
    """
    means = {}
    for name in PARTS:
        values: list[float] = []
        for part in columns:
            values += part[name]
        means[name] = sum(values) / len(values) if values else 0.0
    return means | {MASK_GAIN: sum(means.values())}


def add_to_curve(folder: Path, epoch: int, step: int, gain: dict[str, float]) -> None:
    """Add a point to a run's `CURVE_FILE`. Points that a stopped run had reached beyond it are forgotten."""
    points: list[dict] = []
    for point in read_curve(folder):
        if (point["epoch"], point["step"]) < (epoch, step):
            points.append(point)
    points.append({"epoch": epoch, "step": step} | gain)
    write_atomically(folder / CURVE_FILE, csv_of(points))


def read_curve(folder: Path) -> list[dict]:
    """The points of a run's `CURVE_FILE` in their order: epoch and step (from 1), `PARTS` and `MASK_GAIN`; or none."""
    if not (folder / CURVE_FILE).is_file():
        return []
    points = []
    for row in read_rows(folder / CURVE_FILE):
        point: dict = {"epoch": int(row["epoch"]), "step": int(row["step"])}
        for name in (*PARTS, MASK_GAIN):
            point[name] = float(row[name])
        points.append(point)
    return points
