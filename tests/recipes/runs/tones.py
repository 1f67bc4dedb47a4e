"""A data folder of pure tones, and what the tests of runs do with it."""

import csv
import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import torch
from recipe_files import HPARAMS

from models.bundle import load_bundle, save_bundle

RATE = 16000
NAMES = ("low", "mid", "high")
MODULATION, LMAC = HPARAMS / "modulation.yaml", HPARAMS / "lmac.yaml"
SMALL = ("--num_classes=3", "--clip_seconds=0.5", "--batch_size=6", "--epochs=1")
LMAC_SMALL = ("--epochs=1", "--batch_size=6", "--precision=fp32", "--report_clips=0")


@dataclass(frozen=True)
class Tones:
    """A data folder of pure tones: three classes, five folds, two clips of each class in each fold."""

    folder: Path

    @property
    def table(self) -> Path:
        return self.folder / "meta/tones.csv"

    def rows(self) -> list[dict[str, str]]:
        with self.table.open(newline="") as file:
            return list(csv.DictReader(file))

    def rewrite(self, rows: list[dict[str, str]]) -> None:
        with self.table.open("w", newline="") as file:
            writer = csv.DictWriter(file, ("filename", "fold", "target", "category", "src_file"))
            writer.writeheader()
            writer.writerows(rows)

    def renumber(self) -> None:
        """The same names, numbered from the other end."""
        self.rewrite([row | {"target": str(2 - int(row["target"]))} for row in self.rows()])

    def copy(self, folder: Path) -> "Tones":
        shutil.copytree(self.folder, folder)
        return Tones(folder)


def make_tones(folder: Path, seed: int = 0) -> Tones:
    rng, tones, rows = np.random.default_rng(seed), Tones(folder), []
    (folder / "audio").mkdir(parents=True)
    (folder / "meta").mkdir()
    times = np.arange(RATE // 2) / RATE
    for fold in range(1, 6):
        for target, name in enumerate(NAMES):
            for take in range(2):
                hertz = 300 * 3**target * (1 + 0.05 * rng.standard_normal())
                sound = 0.5 * np.sin(2 * np.pi * hertz * times) + 0.02 * rng.standard_normal(len(times))
                file = f"{fold}-{name}-{take}.wav"
                soundfile.write(folder / "audio" / file, sound, RATE)
                rows.append({"filename": file, "fold": fold, "target": target, "category": name, "src_file": ""})
    tones.rewrite(rows)
    return tones


def read(path: Path) -> dict:
    return json.loads(path.read_text())


def files(folder: Path) -> dict[Path, bytes]:
    """The content of all files but the log of a run."""
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.name != "train_log.txt"}


def other_classifier(trained: Path, folder: Path) -> Path:
    """A classifier of the same shape with other weights."""
    bundle = load_bundle(trained / "classifier", "classifier")
    with torch.no_grad():
        next(bundle.network.parameters()).add_(1e-3)
    return save_bundle(folder, bundle.network, (bundle.path / "model.yaml").read_text(), bundle.info)
