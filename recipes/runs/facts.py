"""Results as files: metrics.json, manifest.csv and the confusion matrix, with the facts that belong to them."""

import csv
import io
import json
import math
import subprocess
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np
import torch

from recipes.data.clips import ClipStore
from recipes.data.contamination import Contamination
from recipes.data.corpus import FoldSplit
from recipes.data.sound_names import LABEL_JOINT
from recipes.runs.run import InterpreterRun, Run
from recipes.scoring.scores import AVERAGED
from recipes.scoring.table import ClipTable
from recipes.system.files import csv_of, write_atomically
from recipes.system.parallel import world_size


@dataclass(frozen=True)
class RunFacts:
    """Everything in metrics.json but the scores. `interpreter` and `classifier` are None where they do not apply."""

    experiment: str
    data: dict
    seed: int
    commit: str
    config_sha256: str
    device: str
    torch: str
    classifier: dict | None = None
    interpreter: dict | None = None
    training: dict = field(default_factory=dict)

    @classmethod
    def of(cls, run: Run, weights: str, training: dict) -> "RunFacts":
        """The facts of a run that trains a classifier.

        weights: where the weights came from that training began with. training: facts about the training.
        """
        device = device_name(run.device)
        return cls(
            experiment=run.values["experiment"],
            data=_data_facts(run),
            seed=run.values["seed"],
            commit=commit(),
            config_sha256=run.recipe.sha256,
            device=f"{world_size()} x {device}" if world_size() > 1 else device,
            torch=torch.__version__,
            classifier={"recipe": run.recipe.path.stem, "weights": weights},
            training=training,
        )

    @classmethod
    def of_interpreter(cls, run: InterpreterRun, training: dict) -> "RunFacts":
        """The facts of a run that explains a classifier. training: facts about the interpreter's training."""
        subject, interpreter = run.subject, run.interpreter
        about_classifier = {"path": str(subject.bundle.path), "sha256": subject.fingerprint} | subject.info.source
        about_classifier.pop("clips", None)  # the hashes of all clips that it has seen stay in its own bundle
        about_interpreter = {
            "recipe": run.recipe.path.stem,
            "class": type(interpreter).__name__,
            "parameters": sum(parameter.numel() for parameter in interpreter.parameters()),
        }
        facts = cls.of(run, subject.info.source["classifier"]["weights"], training)
        return replace(facts, classifier=about_classifier, interpreter=about_interpreter)

    def source(self) -> dict:
        """The part that a bundle keeps: where it came from."""
        facts = asdict(self)
        for key in ("config_sha256", "device", "torch", "interpreter"):
            del facts[key]
        return facts


def _data_facts(run: Run) -> dict:
    facts = {"name": run.store.corpus.name, "content": run.store.content_hash}
    for part in ("train", "valid", "test"):
        facts[f"{part}_folds"] = list(run.folds(part))
    return facts | {"clips": len(run.clips("test")), "contamination": "clean"}


@dataclass(frozen=True)
class Result:
    """What scoring an interpreter on the test clips under one contamination gave.

    folder: where it is written. table: the scores of every clip at the interpreter's headline setting. metrics: their
    averages. sweep: the averages of every setting, None where there is one setting only.
    """

    folder: Path
    noise: Contamination
    table: ClipTable
    metrics: dict
    sweep: list[dict] | None
    facts: RunFacts


def write_metrics(path: Path, facts: RunFacts, metrics: dict, seconds: float, sweep: list[dict] | None = None) -> None:
    """metrics.json by the output contract; NaN becomes null, because JSON has none."""
    content = asdict(facts) | {"seconds": round(seconds, 1), "metrics": metrics} | ({"sweep": sweep} if sweep else {})
    text = json.dumps(_without_nan(content), indent=2, allow_nan=False) + "\n"
    write_atomically(path, text.encode())


def score_table(rows: list[dict], names: Sequence[str] = ("quantile", *AVERAGED)) -> str:
    """Averages as aligned text for a terminal: a line for each setting, a column for each score."""
    columns = []
    for name in names:
        if name in rows[0]:
            cells = [name, *(f"{row[name]:.4g}" for row in rows)]
            width = max(map(len, cells))
            columns.append([cell.rjust(width) for cell in cells])
    return "\n".join("  ".join(line) for line in zip(*columns, strict=True))


def write_manifest(path: str | Path, store: ClipStore, split: FoldSplit) -> None:
    """CSV of the clips that a run uses: id, path, fold, label, target (class index), recording, split.

    recording: what clips of one source share.
    """
    part_of_fold = {}
    for part in ("train", "valid", "test"):
        part_of_fold |= dict.fromkeys(getattr(split, part), part)
    rows = []
    for clip in store.corpus.clips:
        if clip.fold in part_of_fold:
            row = {"id": clip.id, "path": clip.path, "fold": clip.fold, "label": clip.label}
            row["target"] = LABEL_JOINT.join(map(str, clip.targets))
            rows.append(row | {"recording": clip.group, "split": part_of_fold[clip.fold]})
    write_atomically(path, csv_of(rows))


def write_confusion(folder: Path, table: ClipTable, class_names: tuple[str, ...]) -> None:
    """confusion.csv: rows are true classes, columns predictions, cells counts of clips."""
    counts = np.zeros((len(class_names), len(class_names)), dtype=int)
    for label, prediction in zip(table.columns["label"], table.columns["prediction"], strict=True):
        counts[int(label), int(prediction)] += 1
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(["true \\ predicted", *class_names])
    for name, row in zip(class_names, counts.tolist(), strict=True):
        writer.writerow([name, *row])
    write_atomically(folder / "confusion.csv", stream.getvalue().encode())


def commit() -> str:
    """The commit of the running checkout, with "+changes" where it differs from it, or "unknown" outside git."""
    root = Path(__file__).parents[2]
    try:
        described = subprocess.run(
            ["git", "-C", root, "describe", "--always", "--abbrev=12", "--dirty=+changes"],
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return described.stdout.strip()


def device_name(device: str) -> str:
    """The card's name, or the CPU's with its thread count."""
    if torch.device(device).type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"cpu, {torch.get_num_threads()} threads"


def _without_nan(value):
    if isinstance(value, dict):
        return {key: _without_nan(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return list(map(_without_nan, value))
    return None if isinstance(value, float) and not math.isfinite(value) else value
