"""One result out of the results of all folds."""

import json
import statistics
from collections.abc import Sequence
from pathlib import Path

from recipes.runs.results import column, read_json
from recipes.scoring.scores import AVERAGED
from recipes.system.files import write_atomically


def summarize_folds(runs: Sequence[Path], folder: Path) -> Path:
    """metrics.json of a cross-validation: mean and spread (sample standard deviation) of the folds' metrics.

    runs: the folds' folders. Of the training it keeps what is the same in all folds.
    """
    folds = []
    for run in runs:
        folds.append(read_json(run / "metrics.json"))
    summary = dict(folds[0])
    summary["data"] = _data(folds)
    summary["seconds"] = sum(column(folds, "seconds"))
    summary["training"] = _common(column(folds, "training"))
    summary |= _averages(folds)
    if "sweep" in summary:
        summary["sweep"] = _sweep(column(folds, "sweep"))
    write_atomically(folder / "metrics.json", (json.dumps(summary, indent=2) + "\n").encode())
    for name, mean in summary["metrics"].items():
        print(f"{name}: {mean:.4f} +- {summary['spread'][name]:.4f} over {len(folds)} folds")
    return folder


def _data(folds: Sequence[dict]) -> dict:
    data = column(folds, "data")
    first = data[0]
    return {
        "name": first["name"],
        "protocol": f"{len(folds)}-fold cross-validation",
        "test_folds": column(data, "test_folds"),
        "clips": sum(column(data, "clips")),
        "contamination": first["contamination"],
    }


def _common(rows: Sequence[dict]) -> dict:
    """The entries that all rows share with their values."""
    common = dict(rows[0])
    for row in rows[1:]:
        for key in list(common):
            if row.get(key) != common[key]:
                del common[key]
    return common


def _averages(folds: Sequence[dict]) -> dict:
    """`metrics`, `spread` and `folds`: mean, standard deviation and values of every score that all folds have."""
    means, spreads, values = {}, {}, {}
    metrics = column(folds, "metrics")
    for name in _scores(metrics):
        values[name] = column(metrics, name)
        means[name], spreads[name] = statistics.fmean(values[name]), statistics.stdev(values[name])
    return {"metrics": means, "spread": spreads, "folds": values}


def _sweep(sweeps: Sequence[list[dict]]) -> list[dict]:
    """The means at every quantile. sweeps: of every fold, a row for each quantile."""
    summary = []
    for rows in zip(*sweeps, strict=True):
        mean = {"quantile": rows[0]["quantile"]}
        for name in _scores(rows):
            mean[name] = statistics.fmean(column(rows, name))
        summary.append(mean)
    return summary


def _scores(rows: Sequence[dict]) -> list[str]:
    """The scores that every row has a number for."""
    shared = []
    for name in AVERAGED:
        if all(row.get(name) is not None for row in rows):
            shared.append(name)
    return shared
