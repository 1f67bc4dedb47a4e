"""Checks of an explainer beyond its scores, on clean clips evenly spaced over the test folds.

python -m recipes.checks hparams/modulation.yaml --check=curves --data_folder=path/to/ESC-50 [--clips=100] [--steps=10]

--part=valid checks on the validation folds, where settings are chosen, and writes into <run>/checks/valid/.

curves: the predicted class's probability as the most important bins are removed (deletion), or kept alone (insertion).
randomization: how similar the map stays as the classifier's layers are drawn anew, from head to stem. The interpreter's
    own networks stay, and so does the class that is explained, so that only what the classifier learned is lost.
    Batch norms settle on the first clips, because the signal would fade from layer to layer otherwise. SSIM is taken of
    the bins' ranks: raw maps with few bright bins look alike to it wherever those bins are.
robustness: scores, and the map's similarity to that of the clean clip, over SNR (white noise, mixtures) and over
    length. A longer clip repeats itself; a shorter one is its part of that length with the most energy.
stability: prediction and map when the clip is shifted in a circle by one sample to 10 ms, against the map moved by
    the nearest whole number of frames.

Other arguments are the recipe's, as for `interpret.py`, whose trained interpreter is loaded. Each check writes
<run>/checks/<check>.json, with the keys of metrics.json and a row for every setting under `sweep`, <check>.svg, and
<check>.csv with a row for every clip. `metrics` holds the means of these rows: areas under the curves, the similarity
at the end of the cascade, and otherwise means over the settings of an axis.
"""

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch.utils.data import DataLoader

from models.errors import UsageError
from recipes.config.recipe import Recipe, load_recipe
from recipes.data.clips import ClipDataset, collate
from recipes.data.corpus import evenly_spaced
from recipes.data.kinds import SCORED_PARTS
from recipes.report.figures import encode, lines_figure
from recipes.runs.facts import RunFacts, score_table, write_metrics
from recipes.runs.run import InterpreterRun
from recipes.runs.trained import open_trained_run
from recipes.scoring.sanity_checks import CHECKS, Bench, Setting, summarize_check
from recipes.scoring.scores import SCORES
from recipes.scoring.table import ClipTable
from recipes.system.entry import entry, tool_parser
from recipes.system.files import write_atomically
from recipes.training.brain import multiply_in_float32

SETTLING_CLIPS = 16


@torch.no_grad()
def run_check(recipe: Recipe, check: str, clips: int = 100, steps: int = 10, part: str = "test") -> Path:
    """Make one of `CHECKS` on clips of a part of `SCORED_PARTS` and return the JSON it wrote.

    Raises UsageError for what cannot be checked.
    """
    started = time.monotonic()
    multiply_in_float32()
    if recipe.values["contamination"] != "clean" or recipe.values["folds"] is not None:
        raise UsageError("checks are made on clean clips of one split: leave out --contamination and --folds")
    if clips < 1 or steps < 2:
        raise UsageError(f"--clips={clips} must be at least 1 and --steps={steps} at least 2")
    run = open_trained_run(recipe)
    chosen = evenly_spaced(run.clips(part), clips)
    tables = _measure(run, check, part, chosen, steps)
    summary = ClipTable()
    summary.add(torch.tensor(chosen), **summarize_check(check, tables))
    facts = RunFacts.of_interpreter(run, training={})
    facts = replace(facts, data=facts.data | {"part": part, "clips": len(chosen), "steps": steps})
    folder = run.folder / "checks" if part == "test" else run.folder / "checks" / part
    path = folder / f"{check}.json"
    rows = _setting_rows(tables)
    metrics = {name: summary.mean(name) for name in summary.columns}
    write_metrics(path, facts, metrics, time.monotonic() - started, rows)
    summary.write(path.with_suffix(".csv"), run.store.corpus)
    scores = list(next(iter(tables.values())).columns)
    drawn = [score for score in scores if SCORES[score].unit != "%"]
    write_atomically(path.with_suffix(".svg"), encode(lines_figure(rows, drawn, facts.experiment), "svg"))
    _print_settings(rows, scores)
    print(f"{check}: {path}")
    return path


def _measure(run: InterpreterRun, check: str, part: str, chosen: Sequence[int], steps: int) -> dict[Setting, ClipTable]:
    """What the check measures on the chosen clips of a part of the split, at every setting."""
    dataset = ClipDataset(run.store, chosen)
    first_clips = []
    for place in range(min(SETTLING_CLIPS, len(chosen))):
        first_clips.append(dataset[place])
    settling = collate(first_clips)
    bench = Bench(
        run.subject.classifier,
        run.interpreter,
        run.store,
        part,
        tuple(run.clips(part)),
        run.values["seed"],
        steps,
        settling.to(run.device).waveform,
    )
    tables: dict[Setting, ClipTable] = {}
    for batch in DataLoader(dataset, run.values["eval_batch_size"], collate_fn=collate):
        for measurement in CHECKS[check](bench, batch.to(run.device)):
            setting = (measurement.axis, measurement.value, measurement.layer)
            tables.setdefault(setting, ClipTable()).add(batch.index, **measurement.columns)
    return tables


def _setting_rows(tables: dict[Setting, ClipTable]) -> list[dict]:
    """The means at every setting, as rows of `sweep`."""
    rows = []
    for (axis, value, layer), table in tables.items():
        row = {"axis": axis, "value": value}
        if layer:
            row["layer"] = layer
        rows.append(row | table.averages(list(table.columns)))
    return rows


def _print_settings(rows: Sequence[dict], scores: Sequence[str]) -> None:
    """A table for every axis."""
    rows_of_axis: dict[str, list[dict]] = {}
    for row in rows:
        rows_of_axis.setdefault(row["axis"], []).append(row)
    for axis, settings in rows_of_axis.items():
        print(f"{axis}\n{score_table(settings, ('value', *scores))}\n")


def main(arguments: list[str]) -> None:
    """Entry point; see the module's docstring."""
    parser = tool_parser("checks", __doc__, takes_recipe=True)
    parser.add_argument("--check", choices=CHECKS, required=True, help="what is checked")
    parser.add_argument("--clips", type=int, default=100, help="number of clips")
    parser.add_argument("--steps", type=int, default=10, help="steps of a curve, places of a cascade")
    parser.add_argument("--part", choices=SCORED_PARTS, default="test", help="the folds to check on")
    options, recipe_line = parser.parse_known_args(arguments)
    run_check(load_recipe(recipe_line), options.check, options.clips, options.steps, options.part)


if __name__ == "__main__":
    entry(main)
