"""What each part of a mask's training is worth: a recipe trained with one thing changed at a time.

python -m recipes.ablation hparams/amortized_mobilenet.yaml --lines "as it is" "no mixtures:interpreter.mixed=0" \\
    --mask_steps=50 --data_folder=path/to/ESC-50

A line is a name and the keys that it changes. Every line is a run of its own in `<experiment>_<name>`, trained as
interpret.py trains it; one that is finished is only scored again, and one that was stopped goes on. All lines are
checked before the first one runs. Other arguments are given to each of them.

The trained masks are cut to 20 % of the plane and scored under silence on `--clips` validation clips, clean and mixed
at 0 dB, and never on a test clip. The curve is the mask gain on the recipe's `mask_clips` validation clips, after every
epoch and with `mask_steps` within it. Numbers go to --out, where the lines of earlier calls stay, the table of them all
is printed, and with --page put between `<!-- ablation -->` and `<!-- /ablation -->` of a Markdown file.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import fmean

import torch

from interpreters.fixed_area import top_share
from models.bundle import read_info
from models.errors import UsageError
from recipes.config.recipe import Recipe, load_recipe
from recipes.data.corpus import evenly_spaced
from recipes.report.markdown import fill_page, markdown_table, short_number
from recipes.runs.facts import device_name
from recipes.runs.heard_clips import HeardClips
from recipes.runs.mask_scores import file_stem
from recipes.runs.required import REQUIRED
from recipes.runs.results import read_json
from recipes.runs.run import InterpreterRun
from recipes.scoring.fixed_area import FAITHFULNESS, HEADLINE, KINDS_OF_CLIPS, OF_MAP, score_map, score_mask
from recipes.system.entry import entry, tool_parser
from recipes.system.files import write_atomically
from recipes.system.problems import check_all
from recipes.training.mask_gain import MASK_GAIN, read_curve

PART_HEADS = {"ad_gain": "AD gain", "fa_gain": "FA gain", "pointing": "pointing"}
EMPTY_PAGE = "# Ablation\n\n<!-- ablation -->\n<!-- /ablation -->\n"


@dataclass(frozen=True)
class Line:
    """A line of the table. name: in words. changes: of the recipe's keys, as "interpreter.mixed=0"."""

    name: str
    changes: tuple[str, ...]

    def recipe(self, arguments: Sequence[str]) -> Recipe:
        """The recipe of this line. arguments: the recipe and what every line is given. Raises UsageError."""
        experiment = load_recipe(list(arguments)).values["experiment"]
        changes = [f"--{change}" for change in self.changes]
        recipe = load_recipe([*arguments, *changes, f"--experiment={experiment}_{file_stem(self.name)}"], REQUIRED)
        if recipe.values.get("mask_clips") is None:
            raise UsageError(f"{recipe.path} chooses no epoch by its masks: pass --mask_clips=100")
        return recipe


def parse_line(text: str) -> Line:
    """A line as the command line gives it: "name" or "name:key=value:key=value". Raises UsageError for other forms."""
    name, *changes = text.split(":")
    if not name.strip() or not all("=" in change for change in changes):
        raise UsageError(f'{text!r} must be a name and the keys it changes, such as "no mixtures:interpreter.mixed=0"')
    return Line(name.strip(), tuple(changes))


def check_names(lines: Sequence[Line]) -> None:
    """Raise UsageError where two lines would share a folder, by one name or by names that differ in signs alone."""
    name_of_folder: dict[str, str] = {}
    for line in lines:
        folder = file_stem(line.name)
        if folder in name_of_folder:
            raise UsageError(
                f"the lines {name_of_folder[folder]!r} and {line.name!r} would share the folder of {folder!r}: give "
                "each a name of its own"
            )
        name_of_folder[folder] = line.name


@torch.no_grad()
def validation_scores(run: InterpreterRun, count: int) -> dict[str, dict[str, float]]:
    """By the kind of clips, means of `FAITHFULNESS`, and of `OF_MAP` on mixtures, on so many validation clips.

    Masks keep `HEADLINE` of the plane, with silence in the rest. `n` is the number of clips, `n_known` that of the
    mixtures in which the classifier names one of the two sources: only those have a true source.
    """
    clips = HeardClips(run, "valid", evenly_spaced(run.clips("valid"), count))
    scores = {}
    for kind in KINDS_OF_CLIPS:
        columns: dict[str, list[float]] = {}
        for _, heard in clips.batches(kind, with_fillings=False):
            importance = run.interpreter.importance(clips.classifier, heard.spectrogram, heard.evidence).float()
            mask = top_share(importance, HEADLINE)
            of_batch = score_mask(clips.classifier, heard, mask, "silence") | score_map(heard, importance)
            for name in (*FAITHFULNESS, *OF_MAP):
                if name in of_batch:
                    columns.setdefault(name, []).extend(of_batch[name].tolist())
        scores[kind] = _means(columns)
    return scores


def _means(columns: dict[str, list[float]]) -> dict[str, float]:
    means: dict[str, float] = {"n": len(columns["fid_i"])}
    for name, values in columns.items():
        known = [value for value in values if not math.isnan(value)]
        means[name] = round(fmean(known), 4)
        if name in OF_MAP:
            means["n_known"] = len(known)
    return means


def train_line(line: Line, recipe: Recipe, count: int) -> dict:
    """Train a line of the table, score it, and return its row of the JSON."""
    from recipes.interpretation import train_interpreter  # SpeechBrain takes seconds, and mistakes are told before

    run = train_interpreter(recipe)
    run.interpreter.eval().requires_grad_(False)
    source = read_info(run.folder / "interpreter", "interpreter").source
    training = source["training"]
    return {
        "line": line.name,
        "changes": list(line.changes),
        "recipe": recipe.path.stem,
        "seed": recipe.values["seed"],
        "commit": source["commit"],
        "device": device_name(run.device),
        "epoch": training["epoch"],
        "epochs": training["epochs"],
        "cpu_minutes": round(training["cpu_seconds"] / 60, 1),
        "mask_clips": recipe.values["mask_clips"],
        "curve": read_curve(run.folder),
        "scores": validation_scores(run, count),
    }


def with_row(rows: Sequence[dict], row: dict) -> list[dict]:
    """The rows with one more, in the place of that of the same line where there is one.

    Raises UsageError where they are of another recipe or were scored on another number of clips.
    """
    names = []
    for earlier in rows:
        before, now = (earlier["recipe"], earlier["scores"]["clean"]["n"]), (row["recipe"], row["scores"]["clean"]["n"])
        if before != now:
            raise UsageError(
                f"{earlier['line']!r} is a line of {before[0]} on {before[1]} clips and {row['line']!r} one of "
                f"{now[0]} on {now[1]}: name another --out"
            )
        names.append(earlier["line"])
    if row["line"] not in names:
        return [*rows, row]
    return [row if earlier["line"] == row["line"] else earlier for earlier in rows]


def table(rows: Sequence[dict]) -> str:
    """The rows as Markdown: the curve's points, the parts of the chosen epoch's gain, and the scores."""
    points = curve_points(rows)
    one_epoch = len({epoch for epoch, _ in points}) == 1
    heads = ["line"]
    for epoch, step in points:
        heads.append(f"gain, step {step}" if one_epoch else f"gain, epoch {epoch}, step {step}")
    heads += [*PART_HEADS.values(), "clean: FID-I / FA", "0 dB: FID-I / FA", "AP"]
    cells = []
    for row in rows:
        gain_at = {}
        for point in row["curve"]:
            gain_at[point["epoch"], point["step"]] = point[MASK_GAIN]
        clean, mixture = (row["scores"][kind] for kind in KINDS_OF_CLIPS)
        chosen = chosen_point(row)
        cells.append(
            [
                row["line"],
                *(short_number(gain_at.get(point)) for point in points),
                *(short_number(chosen[part]) for part in PART_HEADS),
                _pair(clean),
                _pair(mixture),
                short_number(mixture["ap"]),
            ]
        )
    return markdown_table(heads, cells)


def curve_points(rows: Sequence[dict]) -> list[tuple[int, int]]:
    """The (epoch, step) at which any row's masks were scored, in their order."""
    points = set()
    for row in rows:
        for point in row["curve"]:
            points.add((point["epoch"], point["step"]))
    return sorted(points)


def chosen_point(row: dict) -> dict:
    """The point of a row's curve at the end of its chosen epoch."""
    of_epoch = [point for point in row["curve"] if point["epoch"] == row["epoch"]]
    return of_epoch[-1]


def _pair(scores: dict[str, float]) -> str:
    return f"{short_number(scores['fid_i'])} / {short_number(scores['fa'])}"


def main(arguments: list[str]) -> None:
    """Entry point; see the module's docstring."""
    parser = tool_parser("ablation", __doc__, takes_recipe=True)
    parser.add_argument(
        "--lines", nargs="+", required=True, help='such as "as it is" "no mixtures:interpreter.mixed=0"'
    )
    parser.add_argument("--out", type=Path, default=Path("results/ablation.json"), help="JSON file of the numbers")
    parser.add_argument("--page", type=Path, help="Markdown file to fill")
    parser.add_argument("--clips", type=int, default=100, help="validation clips to score the trained masks on")
    options, recipe_line = parser.parse_known_args(arguments)
    if options.clips < 1:
        raise UsageError(f"--clips={options.clips} must be at least 1")
    lines = [parse_line(text) for text in options.lines]
    check_names(lines)
    recipes: list[Recipe] = []

    def load(line: Line) -> None:
        recipes.append(line.recipe(recipe_line))

    check_all(*(partial(load, line) for line in lines))
    rows = read_json(options.out) if options.out.is_file() else []
    for line, recipe in zip(lines, recipes, strict=True):
        print(f"{line.name}: {', '.join(line.changes) or 'nothing changed'}", flush=True)
        rows = with_row(rows, train_line(line, recipe, options.clips))
        write_atomically(options.out, (json.dumps(rows, indent=1) + "\n").encode())
    text = table(rows)
    print(text)
    if options.page is not None:
        fill_page(options.page, EMPTY_PAGE, {"ablation": text})
    print(f"ablation: {options.out}")


if __name__ == "__main__":
    entry(main)
