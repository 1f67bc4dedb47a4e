"""What a run says at its end: its scores in words, where to look, and the command to try next."""

from collections.abc import Mapping
from pathlib import Path
from shlex import quote

from models.classifier import ClassifierInfo
from recipes.runs.facts import Result, score_table
from recipes.runs.run import InterpreterRun, Run
from recipes.scoring.scores import SCORES, sentence

TOLD = ("fid_i", "fa", "ai", "ad", "kept", "ap", "pointing")
"""The scores that are put into words; the report and metrics.json have all."""


def classifier_closing(run: Run, metrics: Mapping[str, float], described: ClassifierInfo) -> str:
    """The last lines of `train.py`. metrics: the means over the test clips."""
    bundle = run.folder / "classifier"
    method = described.map_name or "grad_cam"  # a native map's recipe bears its name
    lines = [
        _answers(run, metrics),
        f"scores: {run.results_folder / 'metrics.json'}, one row a clip in clips.csv",
        f"classifier: {bundle}",
        f"next: python interpret.py hparams/{method}.yaml --classifier={quote(str(bundle))} {_data(run)}{_output(run)}",
    ]
    return "\n".join(lines)


def _answers(run: Run, metrics: Mapping[str, float]) -> str:
    """How good a classifier's answers to the test clips are."""
    clips = len(run.clips("test"))
    if "acc" in metrics:
        right = round(metrics["acc"] * clips)
        return f"test accuracy {metrics['acc']:.3f}: {right} of {clips} clips of {_folds(run)} get their right class"
    parts = [f"{SCORES[key].label} {metrics[key]:.3f}" for key in metrics]
    return f"test {', '.join(parts)}: {clips} clips of {_folds(run)}, means over the classes"


def interpreter_closing(run: InterpreterRun, result: Result) -> str:
    """The last lines of `interpret.py` for one contamination of the test clips."""
    about = f"{result.noise.kind} clips of {_folds(run)}"
    clips, classes = len(set(result.table.index)), len(result.table.index)
    counted = f"{clips}" if clips == classes else f"{classes} classes that are heard in {clips}"
    lines = ["", f"{result.facts.experiment}: {counted} {about}"]
    if result.sweep and len(result.sweep) > 1:
        lines += [score_table(result.sweep), f"at quantile {result.facts.interpreter['quantile']:g}:"]
    lines += score_lines(result.metrics)
    lines.append(f"report: {result.folder / 'report.html'}")
    recipe, bundle = quote(str(run.recipe.path)), quote(str(run.subject.bundle.path))
    about = f"--classifier={bundle} --experiment={quote(result.facts.experiment)}{_asked(run, result)}{_output(run)}"
    lines.append(f"next: python interpret.py {recipe} {about} --audio=a_sound.wav")
    return "\n".join(lines)


def _asked(run: InterpreterRun, result: Result) -> str:
    """What the command line changed of the seed, which names the run's folder, and of the method; one of its quantiles.

    A method that was trained keeps its settings in its bundle.
    """
    asked = ""
    for key in run.recipe.line_keys:
        if key == "seed" or (key.startswith("interpreter.") and not run.interpreter.trainable):
            of_one = key.rpartition(".")[2] == "quantile"  # and not of the list that was asked for
            value = result.facts.interpreter["quantile"] if of_one else run.recipe.written(key)
            asked += f" --{key}={'null' if value is None else quote(str(value))}"
    return asked


def score_lines(metrics: Mapping[str, float]) -> list[str]:
    """A line for each score of `TOLD` that was measured: label, value, and what it says."""
    shown = [SCORES[key] for key in TOLD if key in metrics]
    width = max((len(score.heading) for score in shown), default=0)
    lines = []
    for score in shown:
        lines.append(f"  {score.heading:<{width}}  {metrics[score.key]:>6.3g}  {sentence(score.key)}")
    return lines


def _folds(run: Run) -> str:
    numbers = ", ".join(str(fold) for fold in run.folds("test"))
    return f"fold {numbers}" if len(run.folds("test")) == 1 else f"folds {numbers}"


def _data(run: Run) -> str:
    separator = run.values.get("label_separator")
    folder = f"--data_folder={quote(str(Path(run.values['data_folder'])))}"
    return folder if separator is None else f"{folder} --label_separator={quote(separator)}"


def _output(run: Run) -> str:
    folder = str(run.values["output_folder"])
    return "" if folder == "results" else f" --output_folder={quote(folder)}"
