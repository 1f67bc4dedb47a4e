"""The recipes people run today beside ours: training epochs, the scoring of maps, and training steps of interpreters.

    git clone https://github.com/speechbrain/speechbrain
    python -m tools.stock --speechbrain=speechbrain --data_folder=data/ESC-50
    python -m tools.stock … --only focalnet score --precision=fp32 --out=data/stock.json

Runs `train.py`, `interpret_amt.py`, `train_lmac.py`, `train_piq.py` and `train_l2i.py` of the checkout's
`recipes/ESC50` as they are (they need torchvision and quantus), and this project's train.py and interpret.py. Each runs
after the other in a process of its own, with the same clips, batch size (twice as large for CNN14's training) and
threads, and without loader processes. An epoch of an interpreter of the papers' sizes takes hours, so two of its steps
stand for it. Timed are the Brain's training stage and its test stage, so that neither imports nor decoding before them
count. All weights are random on both sides: arithmetic takes as long on them. `ratio` is the stock recipe's seconds
over ours.
"""

import argparse
import csv
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

import torch

from models.errors import UsageError
from recipes.data.layouts import find_tables
from recipes.report.markdown import markdown_table
from recipes.system.entry import entry
from tools.bench import instructions
from tools.bench_cases import SWEEP
from tools.runner import ROOT, check_out, positive, save_result, tool_parser
from tools.stock_stages import Stage, run_timed

TRAIN, SCORE, LMAC = "classification/train.py", "interpret/interpret_amt.py", "interpret/train_lmac.py"
PIQ, L2I = "interpret/train_piq.py", "interpret/train_l2i.py"
TASKS = ("focalnet", "cnn14", "lmac", "l2i", "piq", "score")
COLUMNS = ["task", "ratio, CPU time", "ratio", "CPU", "ours in", "clips", "stock, s a clip", "ours, s a clip"]
PEAKS = ["stock, peak GB", "ours, peak GB"]
NO_REPORT = "--report_clips=0"
TWO_STEPS = ["--debug", "--debug_batches=2", "--debug_epochs=1"]


def subset(data_folder: Path, clips: int, folder: Path) -> int:
    """Make a data folder with the first `clips` clips of every fold, by class; returns how many classes they have."""
    with find_tables(data_folder)[0].open(encoding="utf-8", newline="") as file:
        rows = sorted(csv.DictReader(file), key=lambda row: (row["fold"], int(row["target"]), row["filename"]))
    kept: list[dict] = []
    for fold in sorted({row["fold"] for row in rows}):
        kept += [row for row in rows if row["fold"] == fold][:clips]
    (folder / "meta").mkdir(parents=True)
    (folder / "audio").mkdir()
    for row in kept:
        (folder / "audio" / row["filename"]).symlink_to((data_folder / "audio" / row["filename"]).resolve())
    with (folder / "meta" / "esc50.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(kept[0]))
        writer.writeheader()
        writer.writerows(kept)
    return len({row["target"] for row in kept})


def timed_process(line: list[str], threads: int, last: str | None = None) -> dict[str, Stage]:
    """`run_timed` in a process of its own. Raises UsageError with the end of what it said when it fails."""
    command = [sys.executable, "-m", "tools.stock", "--child", json.dumps(line)]
    command += ["--last", last] if last else []
    settings = os.environ | {"OMP_NUM_THREADS": str(threads), "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(ROOT)}
    print(" ".join(line[:2]), "…", file=sys.stderr, flush=True)
    process = subprocess.run(command, cwd=ROOT, env=settings, capture_output=True, text=True, check=False)
    if process.returncode:
        raise UsageError(f"{line[0]} ended with {process.returncode}: {(process.stderr or process.stdout)[-2000:]}")
    stages = json.loads(process.stdout.splitlines()[-1])
    return {name: Stage(**stage) for name, stage in stages.items()}


class Comparison:
    """Runs stock recipes and ours on the same clips, and keeps the stages of each pair.

    data: a folder that holds the data folders `stock` and `ours`. classes: how many their clips have. folder: where the
    runs leave their results. What is known is written to `options.out` after every pair.
    """

    def __init__(self, options: argparse.Namespace, data: Path, classes: int, folder: Path):
        self.options, self.data, self.classes, self.folder = options, data, classes, folder
        self.recipes = options.speechbrain.resolve() / "recipes" / "ESC50"
        device = "cuda:0" if torch.cuda.is_available() else "cpu"
        self.shared = [f"--device={device}", "--noprogressbar"]
        self.precision = [f"--precision={options.precision}", f"--eval_precision={options.precision}"]
        self.tasks: dict[str, dict] = {}

    def stock(
        self, script: str, recipe: str, batch_size: int, *changes: str, last: str | None = None
    ) -> dict[str, Stage]:
        """The stages of a stock recipe, up to the last one that is wanted."""
        own = [f"--batch_size={batch_size}", "--number_of_epochs=1", f"--out_n_neurons={self.classes}"]
        own += [f"--output_folder={self.folder}/stock_{recipe}", f"--data_folder={self.data / 'stock'}"]
        line = [str(self.recipes / script), f"hparams/{recipe}.yaml", *self.shared, *own, *changes]
        return timed_process(line, self.options.threads, last)

    def ours(self, script: str, recipe: str, *changes: str, last: str | None = None) -> dict[str, Stage]:
        """The stages of one of our recipes, up to the last one that is wanted."""
        own = [f"--output_folder={self.folder}/ours", f"--cache_folder={self.folder}/cache"]
        own += [f"--data_folder={self.data / 'ours'}"]
        line = [str(ROOT / script), f"hparams/{recipe}.yaml", *self.shared, *own, *changes]
        return timed_process(line, self.options.threads, last)

    def our_classifier(self, recipe: str, batch_size: int, *changes: str) -> Stage:
        """An epoch of one of our classifiers, whose bundle the interpreters need."""
        own = [f"--batch_size={batch_size}", "--epochs=1", f"--num_classes={self.classes}", *self.precision]
        return self.ours("train.py", recipe, *own, *changes)["train"]

    def our_interpreter(self, recipe: str, classifier: str, *changes: str, last: str | None = None) -> dict[str, Stage]:
        """The stages of one of our interpreters on the classifier that `our_classifier` trained."""
        bundle = f"{self.folder}/ours/{classifier}/1234/classifier"
        return self.ours("interpret.py", recipe, f"--classifier={bundle}", NO_REPORT, *changes, last=last)

    def record(self, task: str, stock: Stage, ours: Stage) -> None:
        """Keep a pair."""
        self.tasks[task] = {"precision": self.options.precision, "stock": asdict(stock), "ours": asdict(ours)}
        content = {
            "cpu": instructions(),
            "threads": self.options.threads,
            "torch": torch.__version__,
            "tasks": self.tasks,
        }
        save_result(content, self.options.out)

    def run(self) -> dict[str, dict]:
        """Every chosen task."""
        chosen, batch = set(self.options.only), self.options.batch_size
        if chosen & {"focalnet", "score", "piq"}:
            ours = self.our_classifier("focalnet", batch, "--weights=null", f"--size={self.options.size}")
            if "focalnet" in chosen:
                self.record("training epoch, FocalNet", self.stock(TRAIN, "focalnet", batch)["train"], ours)
        if chosen & {"cnn14", "lmac", "l2i"}:
            ours = self.our_classifier("cnn14", 2 * batch)
            if "cnn14" in chosen:
                stock = self.stock(TRAIN, "cnn14", 2 * batch, "--use_pretrained=False")["train"]
                self.record("training epoch, CNN14", stock, ours)
        if "lmac" in chosen:
            stock = self.stock_steps(LMAC, "lmac_cnn14", "--save_interpretations=False")
            self.compare_steps("L-MAC on CNN14, paper's decoder (237M)", stock, "lmac_paper", "cnn14")
            self.compare_steps("L-MAC on CNN14, beside our default decoder", stock, "lmac", "cnn14")
            self.compare_steps("L-MAC on CNN14, beside our small LMAC-TD", stock, "lmac_td_small", "cnn14")
        if "l2i" in chosen:
            self.compare_steps("L2I on CNN14", self.stock_steps(L2I, "l2i_cnn14"), "l2i", "cnn14")
        if "piq" in chosen:
            stock = self.stock_steps(PIQ, "piq_focalnet")
            self.compare_steps("PIQ on FocalNet-base (71M)", stock, "piq_focalnet", "focalnet")
        if "score" in chosen:
            self.compare_scoring(batch)
        return self.tasks

    def stock_steps(self, script: str, recipe: str, *changes: str) -> Stage:
        """Two training steps of a stock interpreter."""
        own = ["--use_pretrained=False", *TWO_STEPS, *changes]
        return self.stock(script, recipe, self.options.batch_size, *own, last="train")["train"]

    def compare_steps(self, task: str, stock: Stage, recipe: str, classifier: str) -> None:
        """Two training steps of one of our interpreters beside those of a stock one."""
        own = [f"--batch_size={self.options.batch_size}", "--epochs=1", *self.precision, *TWO_STEPS]
        ours = self.our_interpreter(recipe, classifier, *own, last="train")
        self.record(f"two training steps, {task}", stock, ours["train"])

    def compare_scoring(self, batch: int) -> None:
        """Modulation maps scored at one quantile, and at ten, for which the stock recipe runs ten times."""
        stock = self.stock(SCORE, "amt_focalnet", batch, "--use_pretrained=False")["score"]
        changes = [f"--eval_batch_size={batch}", f"--eval_precision={self.options.precision}"]
        ours = self.our_interpreter("modulation", "focalnet", *changes)
        self.record("scoring, one quantile", stock, ours["score"])
        runs = len(SWEEP)
        ten_runs = Stage(runs * stock.seconds, runs * stock.cpu_seconds, stock.clips, stock.peak_gb)
        sweep = ["--experiment=modulation_sweep", f"--quantile={list(SWEEP)}"]
        ours = self.our_interpreter("modulation", "focalnet", *changes, *sweep)
        self.record("scoring, ten quantiles", ten_runs, ours["score"])


def table(tasks: dict[str, dict]) -> str:
    """The comparison, measured on this machine, as Markdown."""
    rows = []
    for task, pair in tasks.items():
        stock, ours = Stage(**pair["stock"]), Stage(**pair["ours"])
        stock_seconds, our_seconds = stock.seconds / stock.clips, ours.seconds / ours.clips
        cpu_ratio = (stock.cpu_seconds / stock.clips) / (ours.cpu_seconds / ours.clips)
        ratios = [f"{cpu_ratio:.2f}", f"{stock_seconds / our_seconds:.2f}"]
        sides = [f"{stock_seconds:.3f}", f"{our_seconds:.3f}", f"{stock.peak_gb:.2f}", f"{ours.peak_gb:.2f}"]
        rows.append([task, *ratios, instructions(), pair["precision"], str(ours.clips), *sides])
    return markdown_table([*COLUMNS, *PEAKS], rows)


def read_options(arguments: list[str]) -> argparse.Namespace:
    """The command line. Raises UsageError for a folder that is missing or is no checkout of SpeechBrain."""
    parser = tool_parser("stock", __doc__)
    parser.add_argument("--speechbrain", type=Path, help="a checkout of SpeechBrain's repository")
    parser.add_argument("--data_folder", type=Path)
    parser.add_argument("--clips", type=positive, default=24, help="of every fold")
    parser.add_argument("--batch_size", type=positive, default=6)
    parser.add_argument("--threads", type=positive, default=torch.get_num_threads())
    parser.add_argument("--size", default="base", help="of our FocalNet; the stock recipe's is base")
    parser.add_argument("--precision", choices=("auto", "fp32", "bf16"), default="auto", help="of ours")
    parser.add_argument("--only", nargs="+", choices=TASKS, default=TASKS)
    parser.add_argument("--child", type=json.loads, help=argparse.SUPPRESS)
    parser.add_argument("--last", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.child:
        return options
    for name in ("speechbrain", "data_folder"):
        if getattr(options, name) is None:
            raise UsageError(f"--{name} is missing: give the path of a folder")
    for script in (TRAIN, SCORE, LMAC, PIQ, L2I):
        if not (options.speechbrain / "recipes/ESC50" / script).is_file():
            raise UsageError(f"{options.speechbrain} has no recipes/ESC50/{script}: give a checkout of SpeechBrain")
    check_out(options.out)
    return options


def main(arguments: list[str]) -> None:
    """Entry point; see the module's docstring."""
    options = read_options(arguments)
    if options.child:
        stages = run_timed(options.child, options.last)
        print(json.dumps({name: asdict(stage) for name, stage in stages.items()}))
        return
    with tempfile.TemporaryDirectory() as data, tempfile.TemporaryDirectory() as folder:
        subset(options.data_folder, options.clips, Path(data) / "stock")  # a copy, because the recipe adds a CSV to it
        classes = subset(options.data_folder, options.clips, Path(data) / "ours")
        tasks = Comparison(options, Path(data), classes, Path(folder)).run()
    print(table(tasks))


if __name__ == "__main__":
    entry(main)
