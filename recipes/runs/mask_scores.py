"""What `recipes.masks` leaves of a method: its facts, and its scores clip by clip, as two files of one name."""

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from models.errors import UsageError
from recipes.runs.results import read_json, read_rows
from recipes.scoring.fixed_area import OF_MAP, OF_MASK, Setting
from recipes.system.files import csv_of, write_atomically

DIGITS = 5


@dataclass(frozen=True)
class MaskFacts:
    """Which method was scored on which clips.

    classifier: its experiment. classifier_sha256: of its weights. method: what tables call it. recipe: the YAML's name,
    None of a control. clips: "clean" or "mixture_0dB". folds: that the clips are of. epochs, cpu_minutes: of its
    training, None where nothing is trained. seconds_per_clip: that explaining took, CPU time.
    content: hash of the sounds and labels of the folds; None in files of earlier versions.
    """

    classifier: str
    classifier_sha256: str
    method: str
    recipe: str | None
    clips: str
    folds: tuple[int, ...]
    seed: int
    commit: str
    device: str
    epochs: int | None = None
    cpu_minutes: float | None = None
    seconds_per_clip: float | None = None
    content: str | None = None

    @property
    def is_control(self) -> bool:
        return self.recipe is None

    @property
    def file_name(self) -> str:
        """Of its two files, without the ending."""
        return f"{file_stem(self.method)}.{self.clips}"


def file_stem(method: str) -> str:
    """A method's name as a file may be called."""
    return "".join(letter if letter.isalnum() or letter in "._-" else "_" for letter in method)


class MaskScores:
    """A method's scores: for each setting, columns of values, one for each clip.

    ids, recordings: of the clips, in the order of the columns' values.
    """

    def __init__(self, facts: MaskFacts):
        self.facts = facts
        self.ids: list[str] = []
        self.recordings: list[str] = []
        self.columns: dict[Setting, dict[str, list[float]]] = {}

    def add_clips(self, ids: Sequence[str], recordings: Sequence[str]) -> None:
        """The clips of a batch, whose values are added setting by setting."""
        self.ids.extend(ids)
        self.recordings.extend(recordings)

    def add_values(self, setting: Setting, columns: dict[str, Sequence[float]]) -> None:
        kept = self.columns.setdefault(setting, {})
        for name, values in columns.items():
            kept.setdefault(name, []).extend(float(value) for value in values)

    def values(self, setting: Setting, score: str) -> np.ndarray | None:
        """[clips]; None where the setting has no such score."""
        column = self.columns[setting].get(score)
        return None if column is None else np.array(column)

    def write(self, folder: Path) -> None:
        """`<method>.<clips>.csv` and `.json` in a folder; the JSON comes last."""
        rows = []
        for setting, columns in self.columns.items():
            for number, (clip, recording) in enumerate(zip(self.ids, self.recordings, strict=True)):
                row = {"id": clip, "recording": recording, "area": setting.area, "removal": setting.removal}
                for name in (*OF_MASK, *OF_MAP):
                    value = columns[name][number] if name in columns else math.nan
                    row[name] = "" if math.isnan(value) else round(value, DIGITS)
                rows.append(row)
        write_atomically(folder / f"{self.facts.file_name}.csv", csv_of(rows))
        text = json.dumps(asdict(self.facts), indent=1) + "\n"
        write_atomically(folder / f"{self.facts.file_name}.json", text.encode())

    @classmethod
    def read(cls, path: Path) -> "MaskScores":
        """From the JSON file of its facts. Raises UsageError where the CSV is not beside it."""
        facts = read_json(path)
        facts["folds"] = tuple(facts["folds"])
        scores = cls(MaskFacts(**facts))
        table = path.with_suffix(".csv")
        if not table.is_file():
            raise UsageError(f"{path} has no CSV beside it: score the method again, or remove {path}")
        recording_of = {}
        for row in read_rows(table):
            recording_of[row["id"]] = row["recording"]
            values = {}
            for name in (*OF_MASK, *OF_MAP):
                values[name] = [float(row[name]) if row[name] else math.nan]
            scores.add_values(Setting(float(row["area"]), row["removal"]), values)
        scores.add_clips(list(recording_of), list(recording_of.values()))
        return scores


def read_mask_scores(folder: Path) -> list[MaskScores]:
    """Every method in a folder, in the order of file names.

    Raises UsageError for an empty folder, and as `check_comparable` for methods on one kind of clips.
    """
    methods = [MaskScores.read(path) for path in sorted(folder.glob("*.json"))]
    if not methods:
        raise UsageError(f"{folder} holds no scores of masks: name recipes, such as hparams/grad_cam.yaml")
    first_of = {}
    for scores in methods:
        check_comparable(first_of.setdefault(scores.facts.clips, scores), scores, folder)
    return methods


def check_comparable(first: MaskScores, second: MaskScores, folder: Path) -> None:
    """Raise UsageError where two methods in a folder explain different classifiers or hear different clips.

    With another seed a mixture is made of other clips.
    """
    names = f"{first.facts.method} and {second.facts.method} in {folder}"
    if second.facts.classifier_sha256 != first.facts.classifier_sha256:
        raise UsageError(f"{names} explain different classifiers: give each classifier a folder of its own")
    if second.ids != first.ids:
        raise UsageError(f"{names} have different clips: score them alike, or give one another --out")
    if len({first.facts.content, second.facts.content} - {None}) > 1:
        raise UsageError(
            f"{names} have clips of the same names with other sounds or labels: score them on the same data, or give "
            "one another --out"
        )
    if second.facts.seed != first.facts.seed:
        raise UsageError(
            f"{names} have seed={first.facts.seed} and seed={second.facts.seed}, which mix other clips: give each seed "
            "a folder of its own"
        )
