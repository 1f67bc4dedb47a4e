"""What pretrained weights are worth: a classifier with and without them, at equal budget and over several seeds.

    python -m recipes.pretraining hparams/mobilenet.yaml --scratch=hparams/mobilenet_scratch.yaml --seeds 1 2 3
    python -m recipes.pretraining hparams/focalnet.yaml --data_folder=path/to/ESC-50

trains the recipe as it is, and with `--weights=null` or as the recipe behind `--scratch` does it: what suits pretrained
weights, such as a fitted head or frozen statistics, may harm a network from scratch. Both see the same clips for as
many epochs in batches as large. Runs that are finished are not trained again. Prints a table, and writes it as JSON
beside the runs: test accuracy by seed, and the difference with its 95 % interval over recordings and seeds.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from models.errors import UsageError
from recipes.config.recipe import Recipe, load_recipe
from recipes.report.markdown import markdown_table
from recipes.runs.required import REQUIRED_TO_TRAIN
from recipes.runs.results import column, read_json, read_rows
from recipes.scoring.statistics import bootstrap_interval
from recipes.system.entry import entry, tool_parser
from recipes.system.files import write_atomically

BUDGET = ("epochs", "batch_size", "clip_seconds", "data_folder", "subset", "train_folds", "valid_folds", "test_folds")
"""Keys in which the two must agree."""

HEADER = ["weights", "recipe", "seeds", "test accuracy", "by seed", "validation", "seconds a run"]


@dataclass(frozen=True)
class Arm:
    """The finished runs of one of the two, a run for each seed.

    weights: where the network's weights came from. results: what their metrics.json say. correct: accuracy
    [clips, seeds]. recordings: of each clip, what it was cut from.
    """

    recipe: str
    weights: str
    results: list[dict]
    correct: np.ndarray
    recordings: list[str]

    @property
    def interval(self) -> dict:
        """Mean test accuracy with its interval over recordings and seeds."""
        return bootstrap_interval(self.correct, self.recordings)

    @property
    def scores(self) -> list[float]:
        """Test accuracy by seed."""
        return [result["metrics"]["acc"] for result in self.results]

    def document(self) -> dict:
        """For the JSON file."""
        runs = []
        for result in self.results:
            facts = {key: result[key] for key in ("seed", "commit", "device", "seconds")}
            runs.append(facts | {"acc": result["metrics"]["acc"], "training": result["training"]})
        return {"recipe": self.recipe, "weights": self.weights, "acc": self.interval, "runs": runs}

    def cells(self) -> list[str]:
        """As `HEADER` names them."""
        interval = self.interval
        valid = np.mean([result["training"]["valid_acc"] for result in self.results])
        seconds = np.mean(column(self.results, "seconds"))
        return [
            self.weights,
            self.recipe,
            str(len(self.results)),
            f"{interval['mean']:.3f} [{interval['low']:.3f}, {interval['high']:.3f}]",
            ", ".join(f"{score:.3f}" for score in self.scores),
            f"{valid:.3f}",
            f"{seconds:.0f}",
        ]


def check_budget(pretrained: Mapping, scratch: Mapping) -> None:
    """Raises UsageError where the two do not train on the same clips for as long, where both have weights or none, and
    for what has no accuracy on one test fold.
    """
    if pretrained["folds"] is not None or pretrained.get("labels", "one") != "one":
        raise UsageError("accuracies on one split are compared: leave folds=null and labels=one as they are")
    differing = []
    for key in BUDGET:
        if pretrained[key] != scratch[key]:
            differing.append(f"{key}={pretrained[key]!r} and {scratch[key]!r}")
    if differing:
        raise UsageError(f"the two are trained at different budgets, {', '.join(differing)}: give both the same value")
    if pretrained.get("weights") is None:
        raise UsageError("the recipe has no pretrained weights to compare with: pass --weights=path/or/hub_name")
    if scratch.get("weights") is not None:
        raise UsageError(f"--scratch has weights={scratch['weights']!r}: give a recipe from scratch")
    if pretrained["experiment"] == scratch["experiment"]:
        raise UsageError(f"both write to experiment={scratch['experiment']}: give the recipe from scratch another one")


def train_arm(recipes: Sequence[Recipe]) -> Arm:
    """Train a recipe once for each seed, or take what is there."""
    # imported only now: torch and SpeechBrain take seconds, and a mistake on the command line is told at once
    from recipes.classification import train_classifier

    results, correct = [], []
    for recipe in recipes:
        run = train_classifier(recipe)
        results.append(read_json(run / "metrics.json"))
        clips = read_rows(run / "clips.csv")
        correct.append([float(clip["acc"]) for clip in clips])
    recording_of = {clip["id"]: clip["recording"] for clip in read_rows(run / "manifest.csv")}
    recordings = [recording_of[clip["id"]] for clip in clips]
    weights = Path(str(results[0]["classifier"]["weights"])).name
    return Arm(recipes[0].path.stem, weights, results, np.array(correct).T, recordings)


def compare(pretrained: Arm, scratch: Arm) -> dict:
    """Both, and what the weights are worth: the difference in test accuracy, clip by clip and seed by seed."""
    difference = bootstrap_interval(pretrained.correct - scratch.correct, pretrained.recordings)
    data = pretrained.results[0]["data"]
    return {
        "data": data,
        "pretrained": pretrained.document(),
        "scratch": scratch.document(),
        "difference": difference,
    }


def recipes_of(line: Sequence[str], seeds: Sequence[int]) -> list[Recipe]:
    """A recipe's command line with each of the seeds."""
    recipes = []
    for seed in seeds:
        recipes.append(load_recipe([*line, f"--seed={seed}"], REQUIRED_TO_TRAIN, command="train.py"))
    return recipes


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point; see the module's docstring."""
    parser = tool_parser("pretraining", __doc__, takes_recipe=True)
    parser.add_argument("--scratch", help="the recipe from scratch; without it, the same with --weights=null")
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3], help="each trains both once")
    options, line = parser.parse_known_args(arguments)
    with_weights = recipes_of(line, options.seeds)
    values = with_weights[0].values
    if options.scratch:
        scratch_line = [options.scratch, *line[1:], "--weights=null"]
    else:
        scratch_line = [*line, "--weights=null", f"--experiment={values['experiment']}_from_scratch"]
    from_scratch = recipes_of(scratch_line, options.seeds)
    check_budget(values, from_scratch[0].values)
    pretrained, scratch = train_arm(with_weights), train_arm(from_scratch)
    result = compare(pretrained, scratch)
    path = Path(values["output_folder"]) / f"{values['experiment']}_pretraining.json"
    write_atomically(path, (json.dumps(result, indent=1) + "\n").encode())
    print(markdown_table(HEADER, [pretrained.cells(), scratch.cells()]))
    difference = result["difference"]
    print(f"difference {difference['mean']:.3f} [{difference['low']:.3f}, {difference['high']:.3f}]: {path}")


if __name__ == "__main__":
    entry(main)
