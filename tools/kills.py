"""Kill -9 at random moments of train.py and interpret.py, rerun the same command, compare with an undisturbed run.

    python -m tools.kills --kills=50 --out=docs/results/reliability/kills.json

Importing torch and SpeechBrain takes longer than the tiny recipes, so this process imports them once and forks; each
child runs the script itself. Some kills come after a random time, the others at a random instant after a file of some
phase appeared, because a checkpoint or a report is written in milliseconds.
"""

import argparse
import contextlib
import hashlib
import json
import os
import random
import runpy
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import soundfile
import torch

import recipes.classification
import recipes.interpretation  # noqa: F401  imported here so that the forked children need not
from models.bundle import STAGED, read_info
from models.errors import UsageError
from recipes.config.recipe import entry
from recipes.synthetic import make_corpus
from recipes.system.files import write_atomically

ROOT = Path(__file__).parents[1]
TINY = ROOT / "tests" / "recipes" / "tiny.yaml"
BUNDLES = ("classifier", "interpreter")
CHECKPOINT = {"CKPT.yaml", "brain.ckpt", "counter.ckpt", "optimizer.ckpt", "schedule.ckpt", "stopwatch.ckpt"}


@dataclass(frozen=True)
class Command:
    """A script with its arguments, of which the output and cache folders are still open."""

    script: str
    arguments: tuple[str, ...]
    experiment: str

    def line(self, folder: Path) -> list[str]:
        return [self.script, *self.arguments, f"--output_folder={folder / 'out'}", f"--cache_folder={folder / 'cache'}"]

    def run(self, folder: Path) -> Path:
        return folder / "out" / self.experiment / "7"


@dataclass
class Tally:
    """What the kills met and what they cost."""

    phases: Counter = field(default_factory=Counter)
    runs: int = 0
    identical: int = 0
    half_written: list[str] = field(default_factory=list)
    different: list[str] = field(default_factory=list)
    leftovers: list[str] = field(default_factory=list)


def commands(data: Path, classifier: Path) -> dict[str, Command]:
    """A tiny training with a checkpoint at every step, and a tiny L-MAC with a report."""
    common = (f"--data_folder={data}", "--device=cpu", "--noprogressbar")
    steps = ("--ckpt_interval_minutes=0", "--ckpt_interval_steps=2", "--epochs=2", "--batch_size=10")
    lmac = (
        str(ROOT / "hparams" / "lmac.yaml"), *common, *steps, f"--classifier={classifier}", "--seed=7",
        "--precision=fp32", "--report_clips=2", "--interpreter={width: 16}",
    )  # fmt: skip
    return {
        "train": Command("train.py", (str(TINY), *common, "--ckpt_interval_steps=1"), "tiny"),
        "interpret": Command("interpret.py", lmac, "lmac"),
    }


def start(line: list[str], log: Path, before: Callable[[], None] | None = None) -> int:
    """Fork a process that runs a script of this repository with this command line; its id.

    before: what the process does first.
    """
    process = os.fork()
    if process:
        return process
    code = 1
    try:  # whatever happens, this process must not go on as a copy of the one that forked it
        if before:
            before()
        _become(line, log)
        code = 0
    except SystemExit as leaving:
        code = leaving.code if isinstance(leaving.code, int) else 1
    except BaseException as error:
        with contextlib.suppress(BaseException):
            traceback.print_exception(error)
    finally:
        with contextlib.suppress(BaseException):
            sys.stdout.flush()
        os._exit(code)


def _become(line: list[str], log: Path) -> None:
    os.setsid()
    sys.stdout = sys.stderr = log.open("w", buffering=1)
    torch.set_num_threads(1)
    sys.argv = line
    sys.path.insert(0, str(ROOT))
    runpy.run_path(str(ROOT / line[0]), run_name="__main__")


def finish(line: list[str], log: Path) -> int:
    """Run a command to its end; its exit code."""
    return wait(start(line, log))


def wait(process: int) -> int:
    """The exit code of a process that was started; negative: the signal that ended it."""
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def kill(process: int, due: Callable[[], bool], number: int = signal.SIGKILL) -> int | None:
    """Send a signal as soon as `due`; the exit code (negative: killed), None where the process was faster."""
    while not due():
        found, status = os.waitpid(process, os.WNOHANG)
        if found:
            return None if os.waitstatus_to_exitcode(status) == 0 else os.waitstatus_to_exitcode(status)
        time.sleep(1e-3)
    with contextlib.suppress(ProcessLookupError):
        os.kill(process, number)
    code = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    return None if code == 0 else code


def after(seconds: float) -> Callable[[], bool]:
    moment = time.monotonic() + seconds
    return lambda: time.monotonic() >= moment


def seen(folder: Path, pattern: str, delay: float) -> Callable[[], bool]:
    """Due `delay` s after the first file of that pattern that was not there at the start appears in the folder."""
    before, moment = set(folder.glob(pattern)), []

    def due() -> bool:
        if not moment and any(path not in before for path in folder.glob(pattern)):
            moment.append(time.monotonic() + delay)
        return bool(moment) and time.monotonic() >= moment[0]

    return due


def phase(folder: Path, run: Path) -> str:
    """What a killed process was doing, by what it left."""
    if any((folder / "cache").glob(".building-*")) or not (run / "hyperparams.yaml").exists():
        return "preparing data"
    if any((run / "save").glob(STAGED + "*")):
        return "saving a checkpoint"
    if any(path.is_dir() for path in run.glob(STAGED + "*")):
        return "writing a bundle"
    if (run / "report.html").exists():
        return "leaving"
    if (run / "clips.csv").exists():
        return "writing the results"
    return "scoring" if (run / "interpreter").exists() else "training"


def half_written(folder: Path, run: Path) -> list[str]:
    """Files under a final name that are not whole."""
    faults = []

    def check(path: Path, whole: Callable[[], object]) -> None:
        try:
            if whole() is False:
                faults.append(path.name)
        except (ValueError, OSError, RuntimeError, EOFError, UsageError):
            faults.append(path.name)

    for path in run.rglob("*.json"):
        check(path, lambda path=path: json.loads(path.read_text()))
    for path in run.rglob("*.wav"):
        check(path, lambda path=path: soundfile.read(path))
    for path in run.rglob("*.csv"):
        check(path, lambda path=path: path.read_bytes().endswith(b"\n"))
    for path in run.glob("report.html"):
        check(path, lambda path=path: path.read_bytes().endswith(b"</html>\n"))
    for name in BUNDLES:
        if (run / name).exists():
            check(run / name, lambda name=name: read_info(run / name, name))
    for checkpoint in (run / "save").glob("CKPT*"):
        check(checkpoint, lambda one=checkpoint: {path.name for path in one.iterdir()} >= CHECKPOINT)
        for path in checkpoint.glob("[cio]*r.ckpt"):
            if path.name != "counter.ckpt":
                check(path, lambda path=path: torch.load(path, weights_only=True))
    for index in (folder / "cache").glob("*/index.json"):
        if not index.parent.name.startswith("."):
            said = json.loads(index.read_text())["sha256"]
            check(index, lambda index=index, said=said: said == _sha256(index.with_name("samples.i16")))
    return faults


def results(run: Path) -> dict[str, object]:
    """Everything of a finished run that must be the same to the bit."""
    found: dict[str, object] = {"metrics": json.loads((run / "metrics.json").read_text())["metrics"]}
    for pattern in ("clips.csv", "*/weights.safetensors", "media/*.wav", "media/*.png"):
        found |= {str(path.relative_to(run)): _sha256(path) for path in run.glob(pattern)}
    return found


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def aims(rng: random.Random, folder: Path, run: Path, seconds: float) -> Callable[[], bool]:
    """The moment of one kill: somewhere in the run, or just after something that is written began to be."""
    targets = [
        (folder, "cache/.building-*"),
        (run / "save", STAGED + "*"),
        (run / "save", STAGED + "*/optimizer.ckpt"),
        (run, STAGED + "*/*"),
        (run, STAGED + "*"),
        (run, "clips.csv"),
        (run, "media/*"),
        (run, "media/" + STAGED + "*"),
    ]
    if rng.random() < 0.4:
        return after(rng.uniform(0, seconds))
    where, pattern = rng.choice(targets)
    return seen(where, pattern, rng.choice((0, 0, 1e-3, 1e-2)) * rng.random())


def injure(command: Command, reference: dict, seconds: float, kills: int, rng: random.Random, base: Path) -> Tally:
    """Kill runs of a command that many times, three in a row on one folder at most, and let each end at last."""
    tally, left = Tally(), kills
    while left > 0:
        folder = Path(tempfile.mkdtemp(dir=base))
        run = command.run(folder)
        for _ in range(min(3, left)):
            if kill(start(command.line(folder), folder / "log"), aims(rng, folder, run, seconds)) is None:
                shutil.rmtree(folder / "out")  # it ended first: anew, with the cache in place
                continue
            left -= 1
            tally.phases[phase(folder, run)] += 1
            tally.half_written += half_written(folder, run)
        code = finish(command.line(folder), folder / "log")
        tally.runs += 1
        if code:
            tally.different.append(f"exit code {code}: {(folder / 'log').read_text()[-500:]}")
            continue
        found = results(run)
        wrong = sorted(name for name in reference | found if reference.get(name) != found.get(name))
        tally.identical += not wrong
        tally.different += wrong
        tally.leftovers += [str(path.relative_to(folder)) for path in (folder / "out").rglob(STAGED + "*")]
        shutil.rmtree(folder)
    return tally


def measure(kills: int, seed: int, base: Path) -> dict[str, dict]:
    """Both commands, injured half of the kills each; the facts that the documentation shows."""
    data = make_corpus(base / "data", clips_per_class=10, seconds=1.0, mixtures=0)
    trainer = commands(data, base)["train"]
    if finish(trainer.line(base / "classifier"), base / "log"):
        raise UsageError(f"the undisturbed training failed: {(base / 'log').read_text()[-2000:]}")
    rng, found = random.Random(seed), {}
    for name, command in commands(data, trainer.run(base / "classifier") / "classifier").items():
        started = time.monotonic()
        if finish(command.line(base / name), base / "log"):
            raise UsageError(f"the undisturbed {name} failed: {(base / 'log').read_text()[-2000:]}")
        seconds = time.monotonic() - started
        share = kills // 2 if name == "train" else kills - kills // 2
        tally = injure(command, results(command.run(base / name)), seconds, share, rng, base)
        found[name] = {
            "kills": sum(tally.phases.values()),
            "phases": dict(sorted(tally.phases.items())),
            "runs_resumed": tally.runs,
            "runs_identical": tally.identical,
            "half_written": tally.half_written,
            "different": tally.different,
            "leftovers": tally.leftovers,
        }
    return found


def main(arguments: list[str]) -> None:
    """Entry point; see the module's docstring."""
    parser = argparse.ArgumentParser(prog="python -m tools.kills", description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as base:
        found = measure(options.kills, options.seed, Path(base))
    write_atomically(options.out, (json.dumps(found, indent=2) + "\n").encode())
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    entry(main)
