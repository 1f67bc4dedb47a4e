"""CPU seconds from a command to its answer, here and in an older checkout.

    python -m tools.startup                                     this checkout
    python -m tools.startup --before ../older --docs docs/benchmarks.md

Every command is started `--repeats` times and the least CPU time of the process counts, user and system together. The
demo's FocalNet has random weights and the sound is noise: importing takes as long. With `--docs` the table goes into a
page, between `<!-- startup -->` and `<!-- /startup -->`.
"""

import argparse
import os
import resource
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import soundfile

from models.bundle import BundleInfo, save_bundle
from models.errors import UsageError
from recipes.config.recipe import load_recipe
from recipes.report.markdown import fill_tables, markdown_table
from recipes.system.entry import entry
from recipes.system.files import write_atomically
from tools.runner import ROOT, check_out, positive, save_result, tool_parser

SECONDS, RATE = 2.0, 16000
HEADER = ["command", "CPU s before", "CPU s now"]


def commands(folder: Path) -> dict[str, list[str]]:
    """What is started, by the name that the table shows. folder: that of `make_demo`."""
    sound = [f"--classifier={folder / 'classifier'}", f"--audio={folder / 'noise.wav'}", f"--output_folder={folder}"]
    return {
        "a misspelt key": ["interpret.py", "hparams/lmac.yaml", "--epoch=3"],
        "a value out of range": ["train.py", "hparams/cnn14.yaml", "--data_folder=docs", "--margin=2"],
        "--list": ["interpret.py", "--list"],
        "--help after a recipe": ["interpret.py", "hparams/lmac.yaml", "--help"],
        "one sound with the demo's FocalNet": ["interpret.py", "hparams/modulation.yaml", "--device=cpu", *sound],
    }


def make_demo(folder: Path) -> Path:
    """A classifier's bundle of the demo's FocalNet with random weights, and a sound of noise, in a folder."""
    recipe = load_recipe([str(ROOT / "hparams/demo_focalnet.yaml")])
    network = recipe.build()["model"]["classifier"]
    names = tuple(f"class {number}" for number in range(recipe.values["num_classes"]))
    source = {"experiment": "demo_focalnet", "seed": 1234, "commit": "unknown", "training": {}}
    source |= {"classifier": {"recipe": "demo_focalnet", "weights": "random"}, "data": {"name": "noise"}}
    info = BundleInfo("classifier", names, RATE, SECONDS, source)
    save_bundle(folder / "classifier", network, recipe.block("model", network.describe().settings), info)
    noise = np.random.default_rng(0).standard_normal(int(SECONDS * RATE)).astype(np.float32)
    soundfile.write(folder / "noise.wav", 0.1 * noise, RATE)
    return folder


def cpu_seconds(arguments: list[str], checkout: Path, repeats: int = 1) -> float:
    """CPU seconds of a command of a checkout, the least of some repeats. Raises UsageError where it is a traceback."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    times = []
    for _ in range(repeats):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = subprocess.run(
            [sys.executable, *arguments], cwd=checkout, env=environment, capture_output=True, text=True, check=False
        )
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        if "Traceback" in done.stderr:
            raise UsageError(f"{' '.join(arguments)} failed:\n{done.stderr[-1000:]}")
        times.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return min(times)


def measure(checkouts: dict[str, Path], repeats: int) -> dict[str, dict[str, float]]:
    """CPU seconds of every command in every checkout, one beside the other, so that the machine's load is shared."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = make_demo(Path(temporary))
        results: dict[str, dict[str, float]] = {}
        for name, arguments in commands(folder).items():
            results[name] = {}
            for label, checkout in checkouts.items():
                results[name][label] = cpu_seconds([*arguments], checkout, repeats)
                shutil.rmtree(folder / "modulation", ignore_errors=True)
        return results


def table(results: dict[str, dict[str, float]]) -> str:
    """The results as Markdown."""
    rows = []
    for name, seconds in results.items():
        before = seconds.get("before")
        rows.append([name, "" if before is None else f"{before:.2f}", f"{seconds['now']:.2f}"])
    return markdown_table(HEADER, rows)


def main(arguments: list[str]) -> None:
    """Entry point; see the module's docstring."""
    parser = tool_parser("startup", __doc__)
    parser.add_argument("--before", type=Path, help="an older checkout to compare with")
    parser.add_argument("--repeats", type=positive, default=3, help="times that every command is started")
    parser.add_argument("--docs", type=Path, help="a page whose table is replaced")
    options: argparse.Namespace = parser.parse_args(arguments)
    check_out(options.out)
    checkouts = {} if options.before is None else {"before": options.before}
    results = measure(checkouts | {"now": ROOT}, options.repeats)
    shown = table(results)
    print(shown)
    if options.docs:
        page = options.docs.read_text(encoding="utf-8")
        write_atomically(options.docs, fill_tables(page, {"startup": shown}).encode())
    save_result(results, options.out)


if __name__ == "__main__":
    entry(main)
