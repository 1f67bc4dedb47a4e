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
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from interpreters.fixed_area import loudest_patches, random_patches, top_share
from interpreters.ground_truth import Truth
from interpreters.removal import noise_floor
from models.bundle import read_info
from models.classifier import AudioClassifier
from models.errors import UsageError
from recipes.config.recipe import Recipe, load_recipe
from recipes.data.clips import ClipBatch, ClipDataset, collate
from recipes.data.contamination import Contamination, ContaminationSettings
from recipes.report.figures import encode
from recipes.report.markdown import fill_tables
from recipes.report.mask_table import page_tables, summary_rows, trade_figure
from recipes.runs.facts import commit, device_name
from recipes.runs.mask_scores import MaskFacts, MaskScores, read_mask_scores
from recipes.runs.run import InterpreterRun
from recipes.runs.trained import open_trained_run
from recipes.scoring.fixed_area import Heard, score_importance, settings_of
from recipes.system.entry import entry, tool_parser
from recipes.system.files import write_atomically
from recipes.training.brain import multiply_in_float32

CLIPS = ("clean", "mixture_0dB")
PARTS = ("test", "valid")
OTHER_DRAW = 1  # the draw of `Contamination` that fills masks; draw 0 is what mixtures are made of
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


@dataclass(frozen=True)
class Stage:
    """The clips on which explanations of a run's classifier are scored.

    part: of the run's split, "test" or "valid". chosen: positions in the corpus.
    """

    run: InterpreterRun
    part: str
    chosen: tuple[int, ...]

    @property
    def classifier(self) -> AudioClassifier:
        return self.run.subject.classifier

    @property
    def seed(self) -> int:
        return self.run.values["seed"]

    def batches(self, clips: str) -> Iterator[tuple[ClipBatch, Heard]]:
        """The clips, and what the classifier heard of them, clean or mixed at 0 dB."""
        settings = ContaminationSettings("mixture", self.seed, snr_db=0.0)
        mixing = Contamination(settings, self.run.store, self.part, self.run.clips(self.part))
        dataset = ClipDataset(self.run.store, self.chosen)
        for batch in DataLoader(dataset, self.run.values["eval_batch_size"], collate_fn=collate):
            yield batch, self._heard(batch, clips, mixing)

    @torch.no_grad()
    def _heard(self, batch: ClipBatch, clips: str, mixing: Contamination) -> Heard:
        mixture = mixing.mix(batch).to(self.run.device) if clips != "clean" else None
        waveform = batch.waveform.to(self.run.device) if mixture is None else mixture.batch.waveform
        frontend = self.classifier.frontend
        spectrogram = frontend.analyze(waveform)
        evidence = self.classifier(spectrogram)
        fillings = {
            "noise_floor": noise_floor(spectrogram, self.seed),
            "another_clip": frontend.analyze(_rivals(batch, mixing, waveform)),
        }
        truth = None
        if mixture is not None:
            labels = torch.stack([mixture.batch.label, mixture.added_label], dim=1)
            sources = (mixture.batch.waveform, mixture.clip, mixture.added)
            truth = Truth.of(frontend, *sources, labels, evidence.prediction)
        return Heard(spectrogram, evidence, fillings, truth)

    def facts(self, method: str, clips: str) -> MaskFacts:
        """What is known of a control before it is scored."""
        return MaskFacts(
            classifier=self.run.subject.info.source["experiment"],
            classifier_sha256=self.run.subject.fingerprint,
            method=method,
            recipe=None,
            clips=clips,
            folds=self.run.folds(self.part),
            seed=self.seed,
            commit=commit(),
            device=device_name(self.run.device),
        )


def _rivals(batch: ClipBatch, mixing: Contamination, waveform: Tensor) -> Tensor:
    """[B, N] a clip of another class for each clip, as loud as its waveform [N] (by the L2 norm)."""
    drawn = []
    for index in batch.index.tolist():
        drawn.append(mixing.draw(index, OTHER_DRAW).waveform)
    rivals = torch.from_numpy(np.stack(drawn)).to(waveform)
    wanted = torch.linalg.vector_norm(waveform, dim=1, keepdim=True)
    return rivals * wanted / torch.linalg.vector_norm(rivals, dim=1, keepdim=True)


def score_method(stage: Stage, facts: MaskFacts, rank: Ranking, cut: Callable = top_share) -> MaskScores:
    """Score one way of ranking bins on the stage's clips, clean or mixed as the facts say."""
    scores = MaskScores(facts)
    corpus = stage.run.store.corpus
    seconds = 0.0
    for batch, heard in stage.batches(facts.clips):
        torch.manual_seed(stage.seed)
        started = time.process_time()
        importance = rank(heard)
        seconds += time.process_time() - started
        columns_of = score_importance(stage.classifier, heard, importance.float(), settings_of(), cut)
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


def open_stage(recipe: Recipe, part: str, clips: int | None) -> Stage:
    """A recipe's run and the clips to score it on, all by default. Raises UsageError for what cannot be scored."""
    multiply_in_float32()
    if recipe.values["contamination"] != "clean" or recipe.values["folds"] is not None:
        raise UsageError("masks are scored on one split, clean and mixed: leave out --contamination and --folds")
    if clips is not None and clips < 1:
        raise UsageError(f"--clips={clips} must be at least 1")
    run = open_trained_run(recipe)
    members = run.clips(part)
    count = len(members) if clips is None else min(clips, len(members))
    chosen = tuple(members[round(place)] for place in np.linspace(0, len(members) - 1, count))
    return Stage(run, part, chosen)


def score_recipe(stage: Stage, name: str | None, out: Path) -> None:
    """Score the interpreter of the stage's run on both kinds of clips and leave its files."""
    run, training = stage.run, {}
    if run.interpreter.trainable:
        training = read_info(run.folder / "interpreter", "interpreter").source["training"]

    def rank(heard: Heard) -> Tensor:
        return run.interpreter.importance(stage.classifier, heard.spectrogram, heard.evidence).detach()

    for clips in CLIPS:
        facts = replace(
            stage.facts(name or run.values["experiment"], clips),
            recipe=run.recipe.path.stem,
            epochs=training.get("epochs"),
            cpu_minutes=round(training["cpu_seconds"] / 60, 1) if "cpu_seconds" in training else None,
        )
        score_method(stage, facts, rank).write(out)
        print(f"{facts.method}, {clips}: {out / facts.file_name}.csv", flush=True)


def score_controls(stage: Stage, out: Path) -> None:
    """Score the controls whose files are missing."""
    for name, control in controls(stage.seed).items():
        for clips in CLIPS:
            facts = stage.facts(name, clips)
            if not (out / f"{facts.file_name}.json").is_file():
                score_method(stage, facts, control.rank, control.cut).write(out)
                print(f"{name}, {clips}: {out / facts.file_name}.csv", flush=True)


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
        page = page_file.read_text(encoding="utf-8") if page_file.exists() else EMPTY_PAGE
        write_atomically(page_file, fill_tables(page, {"masks": page_tables(rows)}).encode())
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
    parser.add_argument("--part", choices=PARTS, default="test", help="the folds to score on")
    options, changes = parser.parse_known_args(arguments)
    named = [parse_recipe(text, changes) for text in options.recipes]
    check_one_classifier([recipe for _, recipe in named])
    for name, recipe in named:
        stage = open_stage(recipe, options.part, options.clips)
        score_recipe(stage, name, options.out)
        score_controls(stage, options.out)
    print(f"masks: {summarize(options.out, options.page)}")


if __name__ == "__main__":
    entry(main)
