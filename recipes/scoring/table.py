"""Per-clip scores, gathered batch by batch."""

import math
import statistics
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from torch import Tensor

from models.labels import NO_CLASS
from recipes.data.corpus import Corpus
from recipes.scoring.scores import AVERAGED
from recipes.system.files import csv_of, write_atomically
from recipes.system.parallel import gather

CLASS_COLUMNS = ("label", "prediction", "relevant_prediction", "residual_prediction")
"""Columns of class indices, which are written by name."""


class ClipTable:
    """One row a clip: its position in the corpus and every per-clip value, gathered batch by batch."""

    def __init__(self):
        self.index: list[int] = []
        self.columns: dict[str, list[float]] = {}

    def add(self, index: Tensor, **columns: Tensor) -> None:
        """Append a batch: index [B] and columns [B]. Raises ValueError for a column of another length or name."""
        for name, values in columns.items():
            if values.shape != index.shape:
                raise ValueError(f"column {name} has shape {tuple(values.shape)}, not {tuple(index.shape)}")
        self.extend(index.tolist(), {name: values.tolist() for name, values in columns.items()})

    def extend(self, index: list[int], columns: dict[str, list[float]]) -> None:
        """As `add`, with plain numbers. Raises ValueError for a column of another name."""
        if self.columns and set(columns) != set(self.columns):
            raise ValueError(f"columns {sorted(columns)} do not match {sorted(self.columns)}")
        for name, values in columns.items():
            self.columns.setdefault(name, []).extend(values)
        self.index.extend(index)

    def gathered(self) -> "ClipTable":
        """The rows that all processes hold, in the order of the corpus."""
        rows = []
        for process, part in enumerate(gather(self)):
            for row, index in enumerate(part.index):
                values = {}
                for name, column in part.columns.items():
                    values[name] = column[row]
                rows.append((index, process, values))
        rows.sort(key=lambda row: row[:2])
        merged = ClipTable()
        for index, _, values in rows:
            merged.index.append(index)
            for name, value in values.items():
                merged.columns.setdefault(name, []).append(value)
        return merged

    def mean(self, name: str) -> float:
        """Mean over the clips where the value is defined; NaN when it is defined nowhere."""
        values = self._defined(name)
        return statistics.fmean(values) if values else math.nan

    def quartiles(self, name: str) -> list[float]:
        """Minimum, quartiles and maximum over the clips where the value is defined; empty when it is nowhere."""
        values = self._defined(name)
        if not values:
            return []
        quartiles = np.quantile(values, (0, 0.25, 0.5, 0.75, 1)).tolist()
        return [round(quartile, 4) for quartile in quartiles]

    def _defined(self, name: str) -> list[float]:
        return [value for value in self.columns[name] if not math.isnan(value)]

    def averages(self, names: Sequence[str] = AVERAGED) -> dict[str, float]:
        """The mean of every column of `names`, followed by the numbers of clips on which one is undefined."""
        means, undefined = {}, {}
        for name in names:
            if name not in self.columns:
                continue
            means[name] = self.mean(name)
            missing = len(self.columns[name]) - len(self._defined(name))
            if missing:
                undefined[f"{name}_undefined"] = missing
        return means | undefined

    def class_name(self, corpus: Corpus, column: str, position: int) -> str:
        """The class in a column of `CLASS_COLUMNS`, by name.

        Where it is `NO_CLASS`: all labels of the clip in the column of labels, nothing in the others.
        """
        number = int(self.columns[column][position])
        if number != NO_CLASS:
            return corpus.class_names[number]
        return corpus.clips[self.index[position]].label if column == "label" else ""

    def write(self, path: Path, corpus: Corpus) -> None:
        """A CSV of the clips: id, label and predictions by name where they are known, then every score."""
        named = [name for name in CLASS_COLUMNS if name in self.columns]
        numbers = [name for name in self.columns if name not in named]
        rows = []
        for position, index in enumerate(self.index):
            row: dict[str, object] = {"id": corpus.clips[index].id}
            for name in named:
                row[name] = self.class_name(corpus, name, position)
            for name in numbers:
                row[name] = float(self.columns[name][position])
            rows.append(row)
        write_atomically(path, csv_of(rows))
