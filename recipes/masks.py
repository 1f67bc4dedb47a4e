"""Explanations of one classifier as binary masks of fixed areas, against controls of equal area and resolution.

python -m recipes.masks hparams/grad_cam.yaml hparams/extremal.yaml --data_folder=path/to/ESC-50 [--clips=400]

Every recipe's map is cut at 5, 10, 20 and 30 % of the time-frequency plane. What a mask removes is silenced, and at
20 % also replaced by a noise floor and by another clip of the fold. This is done on clean clips and on mixtures of two
clips at 0 dB, where the sources are known. Trained interpreters are those that `interpret.py` left. A recipe may have a
name of its own and keys of its own: "extremal, 10 steps=hparams/extremal.yaml:steps=10". Other arguments are given to
every recipe.

Writes `<out>/<method>.<clips>.csv` (scores clip by clip) and `.json` (facts) for every recipe and, where they are
missing, for the controls: loudest bins, loudest patches, random patches, a constant. Then, from all that the folder
holds, `<out>.json` (means, intervals, differences to the controls), `<out>.svg`, and the tables of the page between
`<!-- masks -->` and `<!-- /masks -->`. Without a recipe only these last three are made.
--part=valid scores on the validation folds, where settings are chosen.
"""

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from interpreters.fixed_area import loudest_patches, random_patches, top_share
from models.bundle import read_info
from models.errors import UsageError
from recipes.config.recipe import Recipe, load_recipe
from recipes.data.corpus import evenly_spaced
from recipes.data.kinds import SCORED_PARTS
from recipes.report.figures import encode
from recipes.report.markdown import fill_page
from recipes.report.mask_table import CONTROLS, page_tables, summary_rows, trade_figure
from recipes.runs.facts import commit, device_name
from recipes.runs.heard_clips import HeardClips
from recipes.runs.mask_scores import MaskFacts, MaskScores, check_comparable, file_stem, read_mask_scores
from recipes.runs.trained import open_trained_run
from recipes.scoring.fixed_area import KINDS_OF_CLIPS, Heard, score_importance, settings_of
from recipes.system.entry import entry, tool_parser
from recipes.system.files import write_atomically
from recipes.training.brain import multiply_in_float32

EMPTY_PAGE = "# Masks of fixed areas\n\n<!-- masks -->\n<!-- /masks -->\n"

Ranking = Callable[[Heard], Tensor]
"""From B clips to the map [B, T, F] that masks are cut from."""


@dataclass(frozen=True)
class Control:
    """A way to cut masks without the classifier: the map, and how masks are cut from it."""

    rank: Ranking
    cut: Callable[[Tensor, float], Tensor] = top_share


def constant_cut(importance: Tensor, area: float) -> Tensor:
    """[B, T, F] the area's share of every bin: as much is kept as by a binary mask, from everywhere."""
    return torch.full_like(importance, area)


def controls(seed: int) -> dict[str, Control]:
    """The controls by name."""
    return {
        "loudest_bins": Control(lambda heard: heard.spectrogram.log_magnitude),
        "loudest_patches": Control(lambda heard: loudest_patches(heard.spectrogram.log_magnitude)),
        "random_patches": Control(lambda heard: random_patches(heard.spectrogram.log_magnitude, seed)),
        "constant": Control(lambda heard: torch.zeros_like(heard.spectrogram.log_magnitude), constant_cut),
    }


def facts_of(clips: HeardClips, method: str, kind: str) -> MaskFacts:
    """What is known of a control before it is scored."""
    run = clips.run
    return MaskFacts(
        classifier=run.subject.info.source["experiment"],
        classifier_sha256=run.subject.fingerprint,
        method=method,
        recipe=None,
        clips=kind,
        folds=run.folds(clips.part),
        seed=clips.seed,
        commit=commit(),
        device=device_name(run.device),
        content=clips.content,
    )


def score_method(clips: HeardClips, facts: MaskFacts, rank: Ranking, cut: Callable = top_share) -> MaskScores:
    """Score one way of ranking bins on these clips, clean or mixed as the facts say."""
    scores = MaskScores(facts)
    corpus = clips.run.store.corpus
    seconds = 0.0
    for batch, heard in clips.batches(facts.clips):
        torch.manual_seed(clips.seed)
        started = time.process_time()
        importance = rank(heard)
        seconds += time.process_time() - started
        columns_of = score_importance(clips.classifier, heard, importance.float(), settings_of(), cut)
        ids, recordings = [], []
        for index in batch.index.tolist():
            clip = corpus.clips[index]
            ids.append(clip.id)
            recordings.append(clip.group)
        scores.add_clips(ids, recordings)
        for setting, columns in columns_of.items():
            values_of = {}
            for name, values in columns.items():
                values_of[name] = values.tolist()
            scores.add_values(setting, values_of)
    scores.facts = replace(facts, seconds_per_clip=round(seconds / len(scores.ids), 4))
    return scores


def open_clips(recipe: Recipe, part: str, count: int | None) -> HeardClips:
    """A recipe's run and the clips to score it on, all by default. Raises UsageError for what cannot be scored."""
    multiply_in_float32()
    if recipe.values["contamination"] != "clean" or recipe.values["folds"] is not None:
        raise UsageError("masks are scored on one split, clean and mixed: leave out --contamination and --folds")
    if count is not None and count < 1:
        raise UsageError(f"--clips={count} must be at least 1")
    run = open_trained_run(recipe)
    members = run.clips(part)
    return HeardClips(run, part, evenly_spaced(members, len(members) if count is None else count))


def score_recipe(clips: HeardClips, name: str, out: Path) -> None:
    """Score the interpreter of the clips' run on both kinds of clips and leave its files."""
    run, training = clips.run, {}
    for kind in KINDS_OF_CLIPS:  # where this call is stopped, no scores of an earlier one stand beside its own
        (out / f"{facts_of(clips, name, kind).file_name}.json").unlink(missing_ok=True)
    if run.interpreter.trainable:
        training = read_info(run.folder / "interpreter", "interpreter").source["training"]

    def rank(heard: Heard) -> Tensor:
        return run.interpreter.importance(clips.classifier, heard.spectrogram, heard.evidence).detach()

    for kind in KINDS_OF_CLIPS:
        facts = replace(
            facts_of(clips, name, kind),
            recipe=run.recipe.path.stem,
            epochs=training.get("epochs"),
            cpu_minutes=round(training["cpu_seconds"] / 60, 1) if "cpu_seconds" in training else None,
        )
        score_method(clips, facts, rank).write(out)
        print(f"{facts.method}, {kind}: {out / facts.file_name}.csv", flush=True)


def score_controls(clips: HeardClips, out: Path) -> None:
    """Score the controls whose files are missing."""
    for name, control in controls(clips.seed).items():
        for kind in KINDS_OF_CLIPS:
            facts = facts_of(clips, name, kind)
            if not (out / f"{facts.file_name}.json").is_file():
                score_method(clips, facts, control.rank, control.cut).write(out)
                print(f"{name}, {kind}: {out / facts.file_name}.csv", flush=True)


def summarize(out: Path, page_file: Path | None) -> Path:
    """Make the JSON, the picture and the page's tables from a folder of scores; returns the JSON."""
    methods = read_mask_scores(out)
    methods.sort(key=lambda scores: (scores.facts.clips, scores.facts.is_control, scores.facts.method))
    rows = summary_rows(methods)
    summary = out.with_suffix(".json")
    write_atomically(summary, (json.dumps(rows, indent=1) + "\n").encode())
    names = [scores.facts.method for scores in methods if scores.facts.is_control]
    write_atomically(out.with_suffix(".svg"), encode(trade_figure(rows, names), "svg"))
    if page_file is not None:
        fill_page(page_file, EMPTY_PAGE, {"masks": page_tables(rows)})
    return summary


def check_one_classifier(recipes: Sequence[Recipe]) -> None:
    """Raise UsageError where recipes explain different classifiers or data: their masks cannot be compared."""
    for recipe in recipes[1:]:
        for key in ("classifier", "data_folder", "seed", "train_folds", "valid_folds", "test_folds"):
            first, second = recipes[0].values[key], recipe.values[key]
            if first != second:
                raise UsageError(
                    f"{recipes[0].path} has {key}={first} and {recipe.path} has {key}={second}: pass --{key}=... to "
                    "give all recipes the same"
                )


def method_names(named: Sequence[tuple[str | None, Recipe]]) -> list[str]:
    """What the files of each recipe are called. Raises UsageError where two would share them, or one a control's."""
    names: list[str] = []
    for name, recipe in named:
        name = name or recipe.values["experiment"]
        if file_stem(name) in (*CONTROLS, *map(file_stem, names)):
            raise UsageError(
                f"{name!r} is a control's name or an earlier recipe's, with which {recipe.path} would share its files: "
                f'give it one of its own, as in "name={recipe.path}"'
            )
        names.append(name)
    return names


def check_folder(clips: HeardClips, names: Sequence[str], out: Path) -> None:
    """Raise UsageError where the scores that a folder holds could not stand beside those of these methods.

    names: of the methods, whose own earlier files will be replaced.
    """
    corpus = clips.run.store.corpus
    ids = [corpus.clips[index].id for index in clips.chosen]
    for path in sorted(out.glob("*.json")):
        earlier = MaskScores.read(path)
        if earlier.facts.method not in names:
            new = MaskScores(facts_of(clips, names[0], earlier.facts.clips))
            new.add_clips(ids, ids)
            check_comparable(earlier, new, out)


def parse_recipe(text: str, changes: Sequence[str]) -> tuple[str | None, Recipe]:
    """A recipe as it is named on the command line: `[name=]path[:key=value[:key=value]]`."""
    name, separator, rest = text.partition("=")
    if not separator or name.partition(":")[0].endswith((".yaml", ".yml")):
        name, rest = None, text
    path, *keys = rest.split(":")
    arguments = [path, *changes]
    for key in keys:
        arguments.append(f"--{key}")
    return name, load_recipe(arguments)


def main(arguments: list[str]) -> None:
    """Entry point; see the module's docstring."""
    parser = tool_parser("masks", __doc__, takes_recipe=True)
    parser.add_argument("recipes", nargs="*", help="such as hparams/grad_cam.yaml")
    parser.add_argument("--out", type=Path, default=Path("results/masks"), help="folder of the scores clip by clip")
    parser.add_argument("--page", type=Path, help="Markdown file to fill")
    parser.add_argument("--clips", type=int, help="number of clips, evenly spaced over the folds; all by default")
    parser.add_argument("--part", choices=SCORED_PARTS, default="test", help="the folds to score on")
    options, changes = parser.parse_known_args(arguments)
    named = [parse_recipe(text, changes) for text in options.recipes]
    check_one_classifier([recipe for _, recipe in named])
    names = method_names(named)
    for name, (_, recipe) in zip(names, named, strict=True):
        clips = open_clips(recipe, options.part, options.clips)
        check_folder(clips, names, options.out)
        score_recipe(clips, name, options.out)
        score_controls(clips, options.out)
    print(f"masks: {summarize(options.out, options.page)}")


if __name__ == "__main__":
    entry(main)
