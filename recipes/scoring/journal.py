"""Scores of batches, kept as they are made, so that scoring that was stopped goes on behind its last batch."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from recipes.system.files import unwritable
from recipes.system.parallel import rank

PREFIX = "scoring-"


@dataclass(frozen=True)
class ScoredBatch:
    """What scoring one batch of clips gave.

    number: of the batch, in the order of the test clips. clips: their positions in the corpus, one for each row of
    scores. settings: by setting of the interpreter's sweep, every column of scores. seconds: what explaining the batch
    took.
    """

    number: int
    clips: list[int]
    settings: list[dict[str, list[float]]]
    seconds: float


class ScoreJournal:
    """The batches that a run has scored so far, in files of its folder: a line a batch, a file a process.

    folder: where the scores will go. basis: a hash of all they rest on; what was scored on another is forgotten.
    """

    def __init__(self, folder: Path, basis: str):
        self.folder, self.basis = folder, basis
        self._file: TextIO | None = None

    def scored(self) -> dict[int, ScoredBatch]:
        """Every batch that any process wrote down whole, by its number."""
        batches = {}
        for line in self._whole_lines(same_basis=True):
            batch = ScoredBatch(**json.loads(line))
            batches[batch.number] = batch
        return batches

    def of_another_basis(self) -> int:
        """How many batches were written down on another basis; `open` forgets them."""
        return len(self._whole_lines(same_basis=False))

    def _whole_lines(self, same_basis: bool) -> list[str]:
        """The batches' lines of all processes that were written down on this basis, or on another one."""
        whole = []
        for path in self._paths():
            lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
            if lines and (lines[0] == self._first_line()) == same_basis:
                whole += [line for line in lines[1:] if line.endswith("\n")]  # a killed process may leave half a line
        return whole

    def open(self, batches: dict[int, ScoredBatch]) -> None:
        """Begin this process's file; the first process writes down there what all have scored before."""
        path = self.folder / f"{PREFIX}{rank()}.jsonl"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._file = path.open("w", encoding="utf-8")
            self._file.write(self._first_line())
        except OSError as error:
            raise unwritable(path, error) from error
        if rank() == 0:
            for batch in batches.values():
                self.add(batch)

    def add(self, batch: ScoredBatch) -> None:
        """Write down one batch. Raises UsageError when the disk is full."""
        assert self._file is not None, "the journal is not open"
        try:
            self._file.write(json.dumps(batch.__dict__) + "\n")
            self._file.flush()
        except OSError as error:
            raise unwritable(self._file.name, error) from error

    def remove(self) -> None:
        """Remove all files: the scores are complete."""
        if self._file is not None:
            self._file.close()
        for path in self._paths():
            path.unlink(missing_ok=True)

    def _paths(self) -> list[Path]:
        return sorted(self.folder.glob(f"{PREFIX}*.jsonl"))

    def _first_line(self) -> str:
        return json.dumps({"basis": self.basis}) + "\n"
