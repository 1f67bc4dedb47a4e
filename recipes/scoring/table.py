"""Per-clip scores, gathered batch by batch."""

import math
import statistics
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from torch import Tensor

from recipes.data.corpus import Corpus
from recipes.scoring.scores import AVERAGED
from recipes.system.files import csv_of, write_atomically
from recipes.system.parallel import gather


class ClipTable:
    """One row a clip: its position in the corpus and every per-clip value, gathered batch by batch."""

    def __init__(self):
        self.index: list[int] = []
        self.columns: dict[str, list[float]] = {}

    def add(self, index: Tensor, **columns: Tensor) -> None:
        """Append a batch: index [B] and columns [B]. Raises ValueError for a column of another length or name."""
        if self.columns and set(columns) != set(self.columns):
            raise ValueError(f"columns {sorted(columns)} do not match {sorted(self.columns)}")
        for name, values in columns.items():
            if values.shape != index.shape:
                raise ValueError(f"column {name} has shape {tuple(values.shape)}, not {tuple(index.shape)}")
            self.columns.setdefault(name, []).extend(values.tolist())
        self.index.extend(index.tolist())

    def gathered(self) -> "ClipTable":
        """The rows that all processes hold, in the order of the corpus."""
        parts, merged = gather(self), ClipTable()
        rows = sorted((index, number, row) for number, part in enumerate(parts) for row, index in enumerate(part.index))
        merged.index = [index for index, _, _ in rows]
        names = next((part.columns for part in parts if part.index), {})
        merged.columns = {name: [parts[number].columns[name][row] for _, number, row in rows] for name in names}
        return merged

    def mean(self, name: str) -> float:
        """Mean over the clips where the value is defined; NaN when it is defined nowhere."""
        values = self._defined(name)
        return statistics.fmean(values) if values else math.nan

    def quartiles(self, name: str) -> list[float]:
        """Minimum, quartiles and maximum over the clips where the value is defined; empty when it is nowhere."""
        values = self._defined(name)
        return [round(value, 4) for value in np.quantile(values, (0, 0.25, 0.5, 0.75, 1)).tolist()] if values else []

    def _defined(self, name: str) -> list[float]:
        return [value for value in self.columns[name] if not math.isnan(value)]

    def averages(self, names: Sequence[str] = AVERAGED) -> dict[str, float]:
        """The mean of every column of `names`, with the number of clips on which one is undefined."""
        scores = {name: self.mean(name) for name in names if name in self.columns}
        undefined = {
            f"{name}_undefined": sum(map(math.isnan, self.columns[name]))
            for name in scores
            if any(map(math.isnan, self.columns[name]))
        }
        return scores | undefined

    def write(self, path: Path, corpus: Corpus) -> None:
        """A CSV of the clips: id, label and prediction by name where they are known, then every score."""
        named = [name for name in ("label", "prediction") if name in self.columns]
        rest = [name for name in self.columns if name not in named]
        rows = [
            {"id": corpus.clips[index].id}
            | {name: corpus.class_names[int(self.columns[name][row])] for name in named}
            | {name: float(self.columns[name][row]) for name in rest}
            for row, index in enumerate(self.index)
        ]
        write_atomically(path, csv_of(rows))
