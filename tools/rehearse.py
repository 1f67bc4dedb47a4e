"""The published set-ups, from classifier to table: a rehearsal at a small size, or a step of each at its own.

python -m tools.rehearse                                    small networks on generated sounds, an epoch each
python -m tools.rehearse --data_folder=data/ESC-50          the same on one clip of each class and fold
python -m tools.rehearse --full --data_folder=data/ESC-50   one batch of each at the published size: seconds and memory

With --out=FILE.json every set-up that has ended is written at once, and rows of other set-ups that the file holds stay:
with --folder and --only, one can follow another.
"""

import argparse
import csv
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import soundfile

from models.errors import UsageError
from recipes.config.compose import compose, setting_names
from recipes.config.yaml_text import plain
from recipes.report.markdown import markdown_table
from recipes.runs.departures import BUILDS_ON, PAPER
from recipes.runs.facts import device_name
from recipes.runs.places import PUBLISHED
from recipes.runs.results import read_json
from recipes.synthetic import make_corpus
from recipes.system.entry import entry
from recipes.tables import local_paper_runs, published_beside_ours
from tools.memory import held_by
from tools.runner import ROOT, check_out, positive, save_result, tool_parser

SMALL_LMAC_TD = (
    "--filters=256",  # as the published decoder of the maps has
    "--kernel=64",
    "--width=16",
    "--layers=1",
    "--chunk=50",
    "--intra_layers=1",
    "--heads=2",
)
SMALL_L2I = ("--components=10", "--rounds=1")
SMALLER = {
    "focalnet": ("--size=nano",),
    "vit": ("--size=nano",),
    "cnn14": ("--width=0.0625",),
    "focalnet_modulation": (),
    "vit_attention": (),
    "focalnet_piq": ("--channels=16",),
    "vit_piq": ("--channels=16",),
    "lmac": (),
    "lmac_finetuned": (),
    "lmac_ft16_cth06": (),
    "lmac_ft16_cth07": (),
    "l2i": SMALL_L2I,
    "l2i_rth02": SMALL_L2I,
    "l2i_rth04": SMALL_L2I,
    "lmac_td_alpha0": SMALL_LMAC_TD,
    "lmac_td_alpha075": SMALL_LMAC_TD,
    "lmac_td_alpha1": SMALL_LMAC_TD,
}
"""What makes each set-up small enough for a rehearsal, beside fewer epochs and clips."""

ONE_BATCH = ("--debug", "--debug_batches=1", "--debug_epochs=1")
NOISE_SECONDS, NOISE_RATE = 20, 16000
SYNTHETIC_SECONDS, SYNTHETIC_CLASSES, SYNTHETIC_CLIPS = 2.0, 10, 10
ESC50_SECONDS, ESC50_CLASSES = 5.0, 50
POLL_SECONDS = 0.1


@dataclass(frozen=True)
class Rehearsed:
    """What a set-up took. outcome: "done", "failed", or "more than ... GB". peak_gb: of its process."""

    name: str
    outcome: str
    seconds: float
    peak_gb: float


def in_order(recipes: Sequence[Path]) -> list[Path]:
    """Recipes so that each comes after what it builds on: classifiers, what explains them, what starts from that."""
    return sorted(recipes, key=lambda path: (_rank(path), path.stem))


def _rank(path: Path) -> int:
    tree = compose(path).tree
    if "model" in tree:
        return 0
    return 2 if plain(tree.get("start_from")) else 1


def builds_on(path: Path, output_folder: Path) -> list[str]:
    """The keys by which a recipe finds, below another folder than results/, the runs that it builds on."""
    changes = []
    for key in ("classifier", "start_from"):
        named = plain(compose(path).tree.get(key))
        if named:
            changes.append(f"--{key}={output_folder / Path(named).relative_to('results')}")
    return changes


def accepted(path: Path, settings: Mapping[str, object]) -> list[str]:
    """Those of some settings that a recipe has, as its command line takes them."""
    expanded = compose(path).expanded()
    known = [*expanded, *(name.rpartition(".")[2] for name in setting_names(expanded))]
    return [f"--{key}={value}" for key, value in settings.items() if key in known]


def check_complete(recipes: Sequence[Path], output_folder: Path) -> None:
    """Raises UsageError where a recipe builds on a run that is neither among the recipes nor below the folder."""
    names = {path.stem for path in recipes}
    for path in recipes:
        for key, part in BUILDS_ON.items():
            run = plain(compose(path).tree.get(key))
            if not run:
                continue
            earlier = Path(run).parts[part].removeprefix(PUBLISHED)
            if earlier not in names and not (output_folder / Path(run).relative_to("results")).exists():
                raise UsageError(f"--only: {path.stem} builds on {earlier}, which is not in --folder: name it too")


def one_epoch(path: Path) -> list[str]:
    """The key that makes a training as short as it can be; none where a recipe trains nothing."""
    return ["--epochs=1"] if plain(compose(path).tree.get("epochs")) else []


def small_data(data_folder: Path, folder: Path, clips: int) -> Path:
    """A data folder with links to the first clips of every class and fold of another one in ESC-50's layout."""
    (folder / "meta").mkdir(parents=True, exist_ok=True)
    audio = folder / "audio"
    audio.unlink(missing_ok=True)  # of an earlier rehearsal in this folder, perhaps on other data
    audio.symlink_to((data_folder / "audio").resolve())
    tables = sorted((data_folder / "meta").glob("*.csv"))
    if not tables:
        raise UsageError(f"{data_folder} holds no meta/*.csv: give a data folder in ESC-50's layout")
    with tables[0].open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    taken: dict[tuple[str, str], int] = {}
    with (folder / "meta" / "small.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        for row in rows:
            kind = (row["fold"], row["category"])
            taken[kind] = taken.get(kind, 0) + 1
            if taken[kind] <= clips:
                writer.writerow(row)
    return folder


def generated_noise(folder: Path) -> Path:
    """A noise folder laid out as WHAM!, with a file of white noise in each part."""
    draw = np.random.default_rng(0)
    for part in ("tr", "cv", "tt"):
        (folder / part).mkdir(parents=True, exist_ok=True)
        soundfile.write(folder / part / "noise.wav", 0.1 * draw.standard_normal(NOISE_SECONDS * NOISE_RATE), NOISE_RATE)
    return folder


def rehearse(path: Path, arguments: Sequence[str], limit_gb: float, log: Path) -> Rehearsed:
    """Run a recipe by its own script in a process that is ended where it holds more memory than the limit.

    log: where the process's output goes.
    """
    script = "train.py" if "model" in compose(path).tree else "interpret.py"
    started = time.monotonic()
    with log.open("w") as output:
        process = subprocess.Popen(
            [sys.executable, script, str(path), *arguments], cwd=ROOT, stdout=output, stderr=subprocess.STDOUT
        )
        peak, outcome = watch(process, limit_gb)
    return Rehearsed(path.stem, outcome, round(time.monotonic() - started, 1), round(peak, 2))


def watch(process: subprocess.Popen, limit_gb: float) -> tuple[float, str]:
    """The most memory that a process held, in GB, and how it ended."""
    peak = 0.0
    while process.poll() is None:
        peak = max(peak, _resident_gb(process.pid))
        if peak > limit_gb:
            process.kill()
            process.wait()
            return peak, f"more than {limit_gb:g} GB"
        time.sleep(POLL_SECONDS)
    return peak, "done" if process.returncode == 0 else "failed"


def _resident_gb(pid: int) -> float:
    """The most memory that a process has held so far, in GB; 0 where it has just ended and holds none."""
    try:
        (peak,) = held_by(pid, "VmHWM")
    except (OSError, KeyError):
        return 0.0
    return peak * 2**20 / 1e9


def _data_options(options: argparse.Namespace, folder: Path) -> dict[str, object]:
    """The keys that name data, cache and noise."""
    data, seconds, classes = options.data_folder, ESC50_SECONDS, ESC50_CLASSES
    if data is None:
        data, seconds, classes = _synthetic(folder / "data"), SYNTHETIC_SECONDS, SYNTHETIC_CLASSES
    elif not options.full:
        data = small_data(data, folder / "data", options.clips)
    return {
        "data_folder": data,
        "cache_folder": folder / "cache",
        "output_folder": folder / "results",
        "noise_folder": options.noise_folder or generated_noise(folder / "noise"),
        "clip_seconds": seconds,
        "num_classes": classes,
        "weights": "null",
        "report_clips": 0,
    }


def _synthetic(folder: Path) -> Path:
    return folder if folder.exists() else make_corpus(folder, SYNTHETIC_CLIPS, seconds=SYNTHETIC_SECONDS)


def _arguments(path: Path, options: argparse.Namespace, shared: Mapping[str, object], folder: Path) -> list[str]:
    """The command line of one set-up, after the recipe."""
    if options.full:
        shorter = {"rounds": 1}  # L2I's dictionary is learned from all clips before the one batch
        if options.batch_size:
            shorter["batch_size"] = options.batch_size
        size = [*accepted(path, shorter), *ONE_BATCH]
    else:
        size = [*one_epoch(path), *SMALLER[path.stem]]
    run = [*size, f"--device={options.device}", "--noprogressbar"]
    return [*accepted(path, shared), *builds_on(path, folder / "results"), *run]


def _parser() -> argparse.ArgumentParser:
    parser = tool_parser("rehearse", __doc__)
    parser.add_argument("--full", action="store_true", help="the published sizes, for one batch each")
    parser.add_argument(
        "--data_folder", type=Path, help="a data folder in ESC-50's layout; without it, generated sounds"
    )
    parser.add_argument("--noise_folder", type=Path, help="of WHAM!; without it, generated noise")
    parser.add_argument("--clips", type=positive, default=1, help="of each class and fold, in the small rehearsal")
    parser.add_argument("--batch_size", type=positive, help="with --full: clips in a step; without it, as published")
    parser.add_argument("--only", nargs="+", help="set-ups by name; what they build on must be there already")
    parser.add_argument("--folder", type=Path, help="where runs go and stay; without it, a temporary folder")
    parser.add_argument("--limit_gb", type=float, default=20.0, help="memory at which a set-up is ended")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"), help="where set-ups run")
    return parser


def chosen(names: Sequence[str] | None) -> list[Path]:
    """The recipes to run. Raises UsageError for a name that hparams/paper does not hold."""
    recipes = in_order(sorted(PAPER.glob("*.yaml")))
    known = [path.stem for path in recipes]
    unknown = sorted(set(names or ()) - set(known))
    if unknown:
        raise UsageError(f"--only: hparams/paper holds no {', '.join(unknown)}; it holds {', '.join(known)}")
    return [path for path in recipes if not names or path.stem in names]


def _run_all(options: argparse.Namespace, folder: Path) -> list[Rehearsed]:
    shared, done = _data_options(options, folder), []
    for path in chosen(options.only):
        log = folder / f"{path.stem}.log"
        done.append(rehearse(path, _arguments(path, options, shared, folder), options.limit_gb, log))
        keep([done[-1]], _conditions(options), options.out)
        print(" ".join(map(str, asdict(done[-1]).values())), flush=True)
        if done[-1].outcome == "failed":
            print(log.read_text()[-2000:], flush=True)
    return done


def _conditions(options: argparse.Namespace) -> dict:
    """What must be equal for rows to stand in one file."""
    return {
        "full": options.full,
        "data": options.data_folder.name if options.data_folder else "generated",
        "batch_size": options.batch_size or "as published",
        "device": device_name(options.device),
    }


def kept_rows(conditions: Mapping, out: Path | None) -> dict[str, dict]:
    """The rows that a file of this tool holds, by set-up. Raises UsageError where they are of other conditions."""
    if out is None or not out.exists():
        return {}
    held = read_json(out)
    rows = held.pop("set_ups")
    if held != conditions:
        raise UsageError(f"{out} holds a rehearsal under other conditions, {held}: choose another --out")
    return {row["name"]: row for row in rows}


def keep(done: Sequence[Rehearsed], conditions: Mapping, out: Path | None) -> None:
    """Add rows to a file, in place of those of the same set-ups. Raises UsageError as `kept_rows`."""
    rows = kept_rows(conditions, out) | {run.name: asdict(run) for run in done}
    save_result({**conditions, "set_ups": list(rows.values())}, out)


def main(arguments: list[str]) -> None:
    """Entry point; see the module's docstring. Exit code 1 where a set-up failed."""
    options = _parser().parse_args(arguments)
    check_out(options.out)
    kept_rows(_conditions(options), options.out)
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        check_complete(chosen(options.only), folder / "results")
        folder.mkdir(parents=True, exist_ok=True)
        done = _run_all(options, folder)
        rows = [[run.name, run.outcome, f"{run.seconds:g}", f"{run.peak_gb:g}"] for run in done]
        print(markdown_table(["set-up", "outcome", "seconds", "peak GB"], rows))
        print(f"\n{time.monotonic() - started:.0f} s in all, {os.cpu_count()} cores\n")
        print(published_beside_ours(local_paper_runs(folder / "results")))
    if any(run.outcome == "failed" for run in done):
        sys.exit(1)


if __name__ == "__main__":
    entry(main)
