"""The recipes people run today beside ours: a training epoch and the scoring of modulation maps, on the same clips.

    git clone https://github.com/speechbrain/speechbrain
    python -m tools.stock --speechbrain=speechbrain --data_folder=data/ESC-50

Runs `train.py`, `interpret_amt.py` and `train_lmac.py` of the checkout's `recipes/ESC50` as they are (they need
torchvision), and this project's train.py and interpret.py, one after another, each in a process of its own with the
same clips, batch size (twice as large for CNN14) and threads and without loader processes. Timed is the Brain's
training stage and its test stage, so that neither imports nor decoding ahead count. All weights are random on both
sides: arithmetic takes as long on them. `ratio` is the stock recipe's seconds over ours.
"""

import argparse
import csv
import json
import os
import resource
import runpy
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import speechbrain as sb
import torch
from transformers import FocalNetBackbone, FocalNetConfig

from models.errors import UsageError
from recipes.config.recipe import entry
from recipes.data.metadata import metadata_file
from recipes.report.markdown import markdown_table
from recipes.system.files import write_atomically
from tools.bench import SWEEP

ROOT = Path(__file__).parents[1]
TRAIN, SCORE, LMAC = "classification/train.py", "interpret/interpret_amt.py", "interpret/train_lmac.py"
TASKS = ("focalnet", "cnn14", "lmac", "score")


@dataclass(frozen=True)
class Stage:
    """What a process spent in one stage, in seconds of the wall clock and of the processor, on how many clips, and the
    most memory it had held by the stage's end."""

    seconds: float
    cpu_seconds: float
    clips: int
    peak_gb: float


def subset(data_folder: Path, clips: int, folder: Path) -> int:
    """A data folder with the first `clips` clips of every fold, by class; returns how many classes they have."""
    with metadata_file(data_folder).open(encoding="utf-8", newline="") as file:
        rows = sorted(csv.DictReader(file), key=lambda row: (row["fold"], int(row["target"]), row["filename"]))
    kept = [row for fold in sorted({row["fold"] for row in rows}) for row in _of(rows, fold)[:clips]]
    (folder / "meta").mkdir(parents=True)
    (folder / "audio").mkdir()
    for row in kept:
        (folder / "audio" / row["filename"]).symlink_to((data_folder / "audio" / row["filename"]).resolve())
    with (folder / "meta" / "esc50.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(kept[0]))
        writer.writeheader()
        writer.writerows(kept)
    return len({row["target"] for row in kept})


def _of(rows: list[dict], fold: str) -> list[dict]:
    return [row for row in rows if row["fold"] == fold]


def run_timed(line: list[str]) -> dict[str, Stage]:
    """Run a script in this process, as `python script …` would, with its Brain's stages timed."""
    found: dict[str, Stage] = {}

    def timed(name: str, stage: Callable, dataset: Callable[[tuple, dict], object]) -> Callable:
        def run(brain, *given, **options):
            wall, cpu = time.perf_counter(), time.process_time()
            result = stage(brain, *given, **options)
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            data = dataset(given, options)
            clips = len(getattr(data, "dataset", data))
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
            found[name] = Stage(time.perf_counter() - wall, time.process_time() - cpu, clips, round(peak, 2))
            return result

        return run

    sb.Brain._fit_train = timed("train", sb.Brain._fit_train, lambda given, options: options["train_set"])
    evaluate = lambda given, options: given[0] if given else options["test_set"]  # noqa: E731
    sb.Brain.evaluate = timed("score", sb.Brain.evaluate, evaluate)
    base = {"embed_dim": 128, "hidden_sizes": [128, 256, 512, 1024], "depths": [2, 2, 18, 2]}
    levels = {"focal_levels": [2] * 4, "focal_windows": [3] * 4, "out_features": ["stage4"]}
    build = FocalNetBackbone.__init__

    def shrunk(self, *given, **options):
        build(self, *given, **options)
        with torch.no_grad():  # gradients of random weights overflow at this depth
            for weight in self.parameters():
                weight.mul_(0.05 if weight.ndim > 1 else 1)

    FocalNetBackbone.__init__ = shrunk
    FocalNetBackbone.from_pretrained = lambda *given, **options: FocalNetBackbone(FocalNetConfig(**base, **levels))
    script = Path(line[0]).resolve()
    os.chdir(script.parent)
    sys.argv, sys.path[0] = [str(script), *line[1:]], str(script.parent)
    runpy.run_path(str(script), run_name="__main__")
    return found


def timed_process(line: list[str], threads: int) -> dict[str, Stage]:
    """`run_timed` in a process of its own. Raises UsageError with the end of what it said when it fails."""
    command = [sys.executable, "-m", "tools.stock", "--child", json.dumps(line)]
    settings = os.environ | {"OMP_NUM_THREADS": str(threads), "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(ROOT)}
    print(" ".join(line[:2]), "…", file=sys.stderr, flush=True)
    done = subprocess.run(command, cwd=ROOT, env=settings, capture_output=True, text=True, check=False)
    if done.returncode:
        raise UsageError(f"{line[0]} ended with {done.returncode}: {(done.stderr or done.stdout)[-2000:]}")
    return {name: Stage(**stage) for name, stage in json.loads(done.stdout.splitlines()[-1]).items()}


def compare(checkout: Path, data: Path, classes: int, options: argparse.Namespace) -> dict[str, dict]:
    """Stages of both sides by task: training epochs, scoring at one quantile, a sweep of ten (ten stock runs).

    What is known is written to `options.out` after every task.
    """
    stock, found = checkout / "recipes" / "ESC50", {}
    device = "cuda:0" if torch.cuda.is_available() else "cpu"
    with tempfile.TemporaryDirectory() as folder:
        shared = [f"--device={device}", "--noprogressbar"]
        auto = ["--precision=auto", "--eval_precision=auto"]

        def theirs(script: str, recipe: str, batch_size: int, *given: str) -> dict[str, Stage]:
            own = [f"--batch_size={batch_size}", "--number_of_epochs=1", f"--out_n_neurons={classes}"]
            own += [f"--output_folder={folder}/stock_{recipe}", f"--data_folder={data / 'stock'}"]
            line = [str(stock / script), f"hparams/{recipe}.yaml", *shared, *own, *given]
            return timed_process(line, options.threads)

        def ours(script: str, recipe: str, *given: str) -> dict[str, Stage]:
            own = [f"--output_folder={folder}/ours", f"--cache_folder={folder}/cache", f"--data_folder={data / 'ours'}"]
            return timed_process([str(ROOT / script), f"hparams/{recipe}.yaml", *shared, *own, *given], options.threads)

        def epoch(recipe: str, batch_size: int, *given: str) -> dict[str, Stage]:
            own = [f"--batch_size={batch_size}", "--epochs=1", *auto]
            return ours("train.py", recipe, f"--num_classes={classes}", *own, *given)

        def record(task: str, their: Stage, our: Stage) -> None:
            found[task] = {"stock": vars(their), "ours": vars(our)}
            if options.out:
                content = {"threads": options.threads, "torch": torch.__version__, "tasks": found}
                write_atomically(options.out, (json.dumps(content, indent=2) + "\n").encode())

        small = options.batch_size
        if {"focalnet", "score"} & set(options.only):
            our = epoch("focalnet", small, "--weights=null", f"--size={options.size}")["train"]
            if "focalnet" in options.only:
                record("training epoch, FocalNet", theirs(TRAIN, "focalnet", small)["train"], our)
        if {"cnn14", "lmac"} & set(options.only):
            our = epoch("cnn14", 2 * small)["train"]
            if "cnn14" in options.only:
                record(
                    "training epoch, CNN14", theirs(TRAIN, "cnn14", 2 * small, "--use_pretrained=False")["train"], our
                )
        if "lmac" in options.only:
            their = theirs(LMAC, "lmac_cnn14", small, "--use_pretrained=False")["train"]
            own = [f"--classifier={folder}/ours/cnn14/1234/classifier", f"--batch_size={small}", "--epochs=1", *auto]
            for what, recipe in {"paper's decoder": "lmac_paper", "our default decoder": "lmac"}.items():
                our = ours("interpret.py", recipe, *own, "--report_clips=0")["train"]
                record(f"training epoch, L-MAC on CNN14, {what}", their, our)
            our = ours("interpret.py", "lmac_td_small", *own, "--report_clips=0")["train"]
            record("training epoch, our small LMAC-TD beside the stock L-MAC", their, our)
        if "score" in options.only:
            one = theirs(SCORE, "amt_focalnet", small, "--use_pretrained=False")["score"]
            own = [f"--classifier={folder}/ours/focalnet/1234/classifier", f"--eval_batch_size={small}", auto[1]]
            record("scoring, one quantile", one, ours("interpret.py", "modulation", *own, "--report_clips=0")["score"])
            quantiles = f"--quantile={list(SWEEP)}"
            ten = Stage(len(SWEEP) * one.seconds, len(SWEEP) * one.cpu_seconds, one.clips, one.peak_gb)
            our = ours("interpret.py", "modulation", *own, quantiles, "--report_clips=0")["score"]
            record("scoring, ten quantiles", ten, our)
    return found


def table(found: dict[str, dict]) -> str:
    """The comparison as Markdown."""
    rows = []
    for task, sides in found.items():
        both = [sides[side] for side in ("stock", "ours")]
        wall, cpu = ([side[what] / side["clips"] for side in both] for what in ("seconds", "cpu_seconds"))
        figures = [*(f"{each:.3f}" for each in wall), *(f"{their / our:.2f}" for their, our in (wall, cpu))]
        rows.append([task, str(sides["ours"]["clips"]), *figures, *(f"{side['peak_gb']:.2f}" for side in both)])
    columns = ["task", "clips", "stock, s a clip", "ours, s a clip", "ratio", "ratio, CPU time"]
    return markdown_table([*columns, "stock, peak GB", "ours, peak GB"], rows)


def main(arguments: list[str]) -> None:
    """Entry point; see the module's docstring."""
    parser = argparse.ArgumentParser(prog="python -m tools.stock", description=__doc__.splitlines()[0])
    parser.add_argument("--speechbrain", type=Path, help="a checkout of SpeechBrain's repository")
    parser.add_argument("--data_folder", type=Path)
    parser.add_argument("--clips", type=int, default=24, help="of every fold")
    parser.add_argument("--batch_size", type=int, default=6)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--size", default="base", help="of our FocalNet; the stock recipe's is base")
    parser.add_argument("--only", nargs="+", choices=TASKS, default=TASKS)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--child", type=json.loads, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.child:
        found = run_timed(options.child)
        print(json.dumps({name: vars(stage) for name, stage in found.items()}))
        return
    for name in ("speechbrain", "data_folder"):
        if getattr(options, name) is None:
            raise UsageError(f"--{name} is missing: give the path of a folder")
    missing = [one for one in (TRAIN, SCORE, LMAC) if not (options.speechbrain / "recipes/ESC50" / one).is_file()]
    if missing:
        raise UsageError(f"{options.speechbrain} has no recipes/ESC50/{missing[0]}: give a checkout of SpeechBrain")
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder)
        subset(options.data_folder, options.clips, data / "stock")  # a copy, because the recipe adds a CSV to it
        classes = subset(options.data_folder, options.clips, data / "ours")
        found = compare(options.speechbrain.resolve(), data, classes, options)
    print(table(found))


if __name__ == "__main__":
    entry(main)
