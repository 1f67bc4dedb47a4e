"""Checks of an explainer beyond its scores, on clean test clips evenly spaced over the test folds.

python -m recipes.checks hparams/modulation.yaml --check=curves --data_folder=path/to/ESC-50 [--clips=100] [--steps=10]

curves: the predicted class's probability as the most important share of bins is deleted, or alone inserted.
randomization: the map's similarity to itself as the classifier's layers are drawn afresh, from head to stem. An
    interpreter's own networks stay, and so does the class that is explained: only what the classifier learned goes.
    Batch norms settle on the first clips, lest the signal fade on its way. SSIM is of the bins' ranks: of raw maps, two
    that are dark but for a few bins are alike whatever those are.
robustness: scores, and the map's similarity to that of the clean clip, over SNR (white noise, mixtures) and over
    length. A longer clip repeats itself; a shorter one is its loudest part of that length.
stability: prediction and map when the clip is shifted in a circle by one sample to 10 ms, against the map moved by
    the nearest whole number of frames.

Other arguments are the recipe's, as for `interpret.py`, whose trained interpreter is loaded. Each check writes
<run>/checks/<check>.json, with the keys of metrics.json and a row for every setting under `sweep`, <check>.svg, and
<check>.csv with a row for every clip. `metrics` are the means of that: areas under the curves, what is left at the
cascade's end, and otherwise means over the settings of an axis.
"""

import argparse
import copy
import itertools
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import DataLoader

from interpreters.base import Interpretation, Interpreter
from interpreters.metrics import fidelity_to_input
from interpreters.sanity import importance_order, layers, randomize, rank_correlation, ranks, settle, ssim, unit_range
from models.classifier import AudioClassifier, Evidence
from models.errors import UsageError
from models.frontend import Spectrogram
from recipes.config.recipe import Recipe, entry, load_recipe
from recipes.data.clips import ClipBatch, ClipDataset, ClipStore, collate
from recipes.data.contamination import Contamination
from recipes.data.corpus import indices
from recipes.report.figures import encode, lines_figure
from recipes.runs.facts import RunFacts, score_table, write_metrics
from recipes.runs.folder import splits_of
from recipes.runs.places import run_folder
from recipes.runs.run import InterpreterRun, device_of
from recipes.runs.subject import (
    check_interpreter_unseen,
    check_unseen,
    interpreter_block,
    interpreter_factory,
    load_subject,
    open_data,
    untrained_or_loaded,
)
from recipes.scoring.batch import compare
from recipes.scoring.table import ClipTable
from recipes.system.files import write_atomically
from recipes.training.brain import multiply_in_float32

SNRS_DB = (-10.0, -5.0, 0.0, 5.0, 10.0, 15.0, 20.0)
LENGTHS_S = (1.0, 2.0, 5.0, 10.0, 30.0)
SHIFTS_MS = (0.0, 1.0, 2.0, 5.0, 10.0)  # no shift is shorter than one sample
SETTLING_CLIPS = 16
PERCENT = ("ai", "ad", "ag")
SUMMARY = {"robustness": ("fid_i", "rank_correlation")}  # of what a check finds, what its metrics tell; others: all


@dataclass(frozen=True)
class Finding:
    """What a check found about a batch of clips at a value on a named axis: columns [B] by name.

    layer: in a cascade, the one that was drawn last.
    """

    axis: str
    value: float
    columns: dict[str, Tensor]
    layer: str | None = None


@dataclass(frozen=True)
class Heard:
    """B clips as a classifier heard them."""

    spectrogram: Spectrogram
    evidence: Evidence


@dataclass(frozen=True)
class Bench:
    """An explainer, and the positions in the corpus that mixtures draw from.

    What an interpreter draws at random, it draws in the same way every time. settling: waveforms [n, N] on which a
    network drawn afresh settles, the same whatever batch is checked.
    """

    classifier: AudioClassifier
    interpreter: Interpreter
    store: ClipStore
    tested: tuple[int, ...]
    seed: int
    steps: int
    settling: Tensor

    def hear(self, waveform: Tensor) -> Heard:
        spectrogram = self.classifier.frontend.analyze(waveform)
        return Heard(spectrogram, self.classifier(spectrogram))

    def importance(self, heard: Heard, classifier: AudioClassifier | None = None) -> Tensor:
        """[B, T, F] by which bins are ranked."""
        torch.manual_seed(self.seed)
        return self.interpreter.importance(classifier or self.classifier, heard.spectrogram, heard.evidence).float()

    def explain(self, heard: Heard) -> Interpretation:
        torch.manual_seed(self.seed)
        return self.interpreter.interpret(self.classifier, heard.spectrogram, heard.evidence)


def curves(bench: Bench, batch: ClipBatch) -> Iterator[Finding]:
    """`deletion` and `insertion`: the probability with 0, 1/steps, … 1 of the bins gone, and with only those there."""
    heard = bench.hear(batch.waveform)
    order, target = importance_order(bench.importance(heard), bench.seed), heard.evidence.prediction[:, None]
    for share in np.linspace(0, 1, bench.steps + 1).tolist():
        first = (order < share).to(heard.spectrogram.log_magnitude)
        columns = {
            name: bench.classifier(heard.spectrogram.masked(mask)).probabilities.gather(1, target)[:, 0]
            for name, mask in (("deletion", 1 - first), ("insertion", first))
        }
        yield Finding("share of bins", share, columns)


def randomization(bench: Bench, batch: ClipBatch) -> Iterator[Finding]:
    """`rank_correlation` and `ssim` of maps to the original, at `steps` places of the cascade, its end among them."""
    heard, network = bench.hear(batch.waveform), copy.deepcopy(bench.classifier)
    settling = bench.classifier.frontend.analyze(bench.settling)
    original, cascade = bench.importance(heard), layers(network)[::-1]
    shown = np.linspace(1, len(cascade), min(bench.steps, len(cascade))).round().astype(int).tolist()
    for count, (name, layer) in enumerate(cascade, start=1):
        torch.manual_seed(bench.seed + count)
        randomize(layer)
        if count in shown:
            settle([one for _, one in cascade[:count]], lambda: network(settling))
            asked = Evidence(heard.evidence.logits, network(heard.spectrogram).features)
            found = bench.importance(Heard(heard.spectrogram, asked), network)
            similar = ssim(ranks(found), ranks(original))
            columns = {"rank_correlation": rank_correlation(found, original), "ssim": similar}
            yield Finding("layers drawn afresh", count, columns, name)


def robustness(bench: Bench, batch: ClipBatch) -> Iterator[Finding]:
    """FID-I … AG on the changed clip, `prediction_kept`, and `rank_correlation` of its map to the clean one's."""
    rate, hop = bench.classifier.frontend.sample_rate, bench.classifier.frontend.hop
    clean = bench.hear(batch.waveform)
    original = bench.explain(clean).importance.float()

    def against(reference: Tensor, waveform: Tensor) -> dict[str, Tensor]:
        heard = bench.hear(waveform)
        found = bench.explain(heard)
        return compare(heard.evidence, bench.classifier(found.relevant), bench.classifier(found.residual)) | {
            "prediction_kept": fidelity_to_input(clean.evidence.probabilities, heard.evidence.probabilities),
            "rank_correlation": rank_correlation(found.importance.float(), reference),
        }

    for kind, snr_db in itertools.product(("white", "mixture"), SNRS_DB):
        noise = Contamination(kind, bench.store, "test", bench.tested, bench.seed, snr_db)
        yield Finding(f"SNR in dB, {kind}", snr_db, against(original, noise.apply(batch).waveform))
    for seconds in LENGTHS_S:
        waveform, start = resized(batch.waveform, round(seconds * rate), hop)
        times = start[:, None] + torch.arange(0, waveform.shape[1] + 1, hop, device=start.device)
        if waveform.shape[1] > batch.waveform.shape[1]:
            times = times % batch.waveform.shape[1]
        there = original.gather(1, (times // hop)[:, :, None].expand(-1, -1, original.shape[2]))
        yield Finding("length in s", seconds, against(there, waveform))


def resized(waveform: Tensor, samples: int, hop: int) -> tuple[Tensor, Tensor]:
    """Clips [B, N] at another length [B, samples], and the sample [B], a multiple of hop, at which each now starts."""
    start = torch.zeros(len(waveform), dtype=torch.long, device=waveform.device)
    if samples < waveform.shape[1]:
        energy = F.pad(waveform.double().square().cumsum(dim=1), (1, 0))
        start = (energy[:, samples:] - energy[:, :-samples])[:, ::hop].argmax(dim=1) * hop
    place = (start[:, None] + torch.arange(samples, device=waveform.device)) % waveform.shape[1]
    return waveform.gather(1, place), start


def stability(bench: Bench, batch: ClipBatch) -> Iterator[Finding]:
    """`prediction_kept`, `rank_correlation` of maps, and `max_change` of the map in [0, 1], under every shift."""
    frontend, still = bench.classifier.frontend, bench.hear(batch.waveform)
    rate, original = frontend.sample_rate, bench.importance(still)
    for samples in (max(1, round(milliseconds * rate / 1000)) for milliseconds in SHIFTS_MS):
        before = original.roll(round(samples / frontend.hop), dims=1)
        moved = bench.hear(batch.waveform.roll(samples, dims=1))
        after = bench.importance(moved)
        columns = {
            "prediction_kept": fidelity_to_input(still.evidence.probabilities, moved.evidence.probabilities),
            "rank_correlation": rank_correlation(after, before),
            "max_change": (unit_range(after) - unit_range(before)).abs().amax(dim=(1, 2)),
        }
        yield Finding("shift in ms", 1000 * samples / rate, columns)


CHECKS = {"curves": curves, "randomization": randomization, "robustness": robustness, "stability": stability}


def summarize(check: str, tables: dict[tuple, ClipTable]) -> dict[str, Tensor]:
    """What a check says of every clip [clips], by score: an area, the last setting, or a mean over settings.

    tables: of every (axis, value, layer). Where there are several axes, each has its own mean.
    """
    axes, found = list(dict.fromkeys(axis for axis, _, _ in tables)), {}
    for axis in axes:
        places, settings = zip(
            *((place, table) for (name, place, _), table in tables.items() if name == axis), strict=True
        )
        for score in SUMMARY.get(check, settings[0].columns):
            values = np.array([table.columns[score] for table in settings])
            match check:
                case "curves":
                    told = np.trapezoid(values, places, axis=0)
                case "randomization":
                    told = values[-1]
                case _:
                    told = np.ma.masked_invalid(values).mean(axis=0).filled(np.nan)
            found[f"{score}, {axis}" if len(axes) > 1 else score] = torch.from_numpy(told)
    return found


@torch.no_grad()
def run_check(recipe: Recipe, check: str, clips: int = 100, steps: int = 10) -> Path:
    """Make one of `CHECKS` and return the JSON it wrote. Raises UsageError for what cannot be checked."""
    multiply_in_float32()
    values, folder, device, started = recipe.values, run_folder(recipe.values), device_of(recipe), time.monotonic()
    if values["contamination"] != "clean" or values["folds"] is not None:
        raise UsageError("checks are made on clean clips of one split: leave out --contamination and --folds")
    if clips < 1 or steps < 2:
        raise UsageError(f"--clips={clips} must be at least 1 and --steps={steps} at least 2")
    subject = load_subject(values["classifier"], device, recipe.trust)
    store = open_data(values, subject)
    (split,) = splits_of(values, store.corpus)
    check_unseen(subject.info, store, split, subject.bundle.path)
    objects = recipe.build()
    factory = interpreter_factory(recipe, objects, subject, folder)
    command = f"python interpret.py {recipe.path}"
    interpreter = untrained_or_loaded(factory, folder, subject, command, recipe.trust).to(device)
    tested = indices(store.corpus, split.test)
    if interpreter.trainable:
        check_interpreter_unseen(folder, store, split)
    chosen = [tested[round(place)] for place in np.linspace(0, len(tested) - 1, min(clips, len(tested)))]
    dataset = ClipDataset(store, chosen)
    first = collate([dataset[place] for place in range(min(SETTLING_CLIPS, len(chosen)))]).to(device)
    bench = Bench(subject.classifier, interpreter, store, tuple(tested), values["seed"], steps, first.waveform)
    tables: dict[tuple, ClipTable] = {}
    for batch in DataLoader(dataset, values["eval_batch_size"], collate_fn=collate):
        for one in CHECKS[check](bench, batch.to(device)):
            tables.setdefault((one.axis, one.value, one.layer), ClipTable()).add(batch.index, **one.columns)
    scores = list(one.columns)
    rows = [
        {"axis": axis, "value": value} | ({"layer": layer} if layer else {}) | table.averages(scores)
        for (axis, value, layer), table in tables.items()
    ]
    model_yaml = interpreter_block(recipe, folder)
    run = InterpreterRun(recipe, folder, store, split, objects, subject, interpreter, model_yaml)
    facts = RunFacts.of_interpreter(run, training={})
    facts = replace(facts, data=facts.data | {"clips": len(chosen), "steps": steps})
    path = folder / "checks" / f"{check}.json"
    summary = ClipTable()
    summary.add(torch.tensor(chosen), **summarize(check, tables))
    metrics = {name: summary.mean(name) for name in summary.columns}
    write_metrics(path, facts, metrics, time.monotonic() - started, rows)
    summary.write(path.with_suffix(".csv"), store.corpus)
    figure = lines_figure(rows, [score for score in scores if score not in PERCENT], facts.experiment)
    write_atomically(path.with_suffix(".svg"), encode(figure, "svg"))
    for axis in dict.fromkeys(row["axis"] for row in rows):
        print(f"{axis}\n{score_table([row for row in rows if row['axis'] == axis], ('value', *scores))}\n")
    print(f"{check}: {path}")
    return path


def main(arguments: list[str]) -> None:
    """Entry point; see the module's docstring."""
    parser = argparse.ArgumentParser(prog="python -m recipes.checks", allow_abbrev=False)
    parser.add_argument("--check", choices=CHECKS, required=True)
    parser.add_argument("--clips", type=int, default=100, help="number of test clips")
    parser.add_argument("--steps", type=int, default=10, help="steps of a curve, places of a cascade")
    options, others = parser.parse_known_args(arguments)
    run_check(load_recipe(others), options.check, options.clips, options.steps)


if __name__ == "__main__":
    entry(main)
