"""Kill -9 at random moments of train.py and interpret.py, rerun the same command, compare with an undisturbed run.

    python -m tools.kills --kills=50 --out=docs/results/reliability/kills.json

Some kills come after a random time. The others come at a random instant after a file of some phase appeared, because a
checkpoint or a report is written in milliseconds.
"""

import hashlib
import json
import random
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import soundfile
import torch

from models.bundle import STAGED, read_info
from models.errors import UsageError
from recipes.synthetic import make_corpus
from recipes.system.entry import entry
from tools.processes import Command, after, commands, finish, kill, seen, start
from tools.runner import check_out, positive, report_result, tool_parser

BUNDLES = ("classifier", "interpreter")
CHECKPOINT = {"CKPT.yaml", "brain.ckpt", "counter.ckpt", "optimizer.ckpt", "schedule.ckpt", "stopwatch.ckpt"}
SAME_TO_THE_BIT = ("clips.csv", "*/weights.safetensors", "media/*.wav", "media/*.png")
UNREADABLE = (ValueError, OSError, RuntimeError, EOFError, UsageError)


@dataclass
class Tally:
    """What the kills met and what they cost.

    phases: kills by what the process was doing. half_written, different, leftovers: names of files that were not whole
    after a kill, that differed after the rerun, and that no run removed.
    """

    phases: Counter = field(default_factory=Counter)
    runs: int = 0
    identical: int = 0
    half_written: list[str] = field(default_factory=list)
    different: list[str] = field(default_factory=list)
    leftovers: list[str] = field(default_factory=list)

    def facts(self) -> dict:
        """What the documentation shows."""
        return {
            "kills": sum(self.phases.values()),
            "phases": dict(sorted(self.phases.items())),
            "runs_resumed": self.runs,
            "runs_identical": self.identical,
            "half_written": self.half_written,
            "different": self.different,
            "leftovers": self.leftovers,
        }


@dataclass(frozen=True)
class Undisturbed:
    """A command, what its run leaves when nothing disturbs it (`results`), and the seconds that it takes."""

    command: Command
    results: dict[str, object]
    seconds: float


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


def is_whole(path: Path) -> bool:
    """Whether a file, a bundle or a checkpoint can be read to its end."""
    try:
        if path.name in BUNDLES:
            read_info(path, path.name)
        elif path.name.startswith("CKPT"):
            return {part.name for part in path.iterdir()} >= CHECKPOINT
        elif path.name == "index.json":  # of the cache: its samples are those that it was written for
            recorded = json.loads(path.read_text())["sha256"]
            return recorded == _sha256(path.with_name("samples.i16"))
        elif path.suffix == ".json":
            json.loads(path.read_text())
        elif path.suffix == ".wav":
            soundfile.read(path)
        elif path.suffix == ".csv":
            return path.read_bytes().endswith(b"\n")
        elif path.suffix == ".html":
            return path.read_bytes().endswith(b"</html>\n")
        elif path.suffix == ".ckpt":
            torch.load(path, weights_only=True)
        else:
            raise AssertionError(f"nobody knows when {path.name} is whole")
    except UNREADABLE:
        return False
    return True


def half_written(folder: Path, run: Path) -> list[str]:
    """Names of files that are not whole, though they have their final name."""
    paths: list[Path] = []
    for pattern in ("*.json", "*.wav", "*.csv"):
        paths += run.rglob(pattern)
    paths += run.glob("report.html")
    paths += [run / name for name in BUNDLES if (run / name).exists()]
    for checkpoint in (run / "save").glob("CKPT*"):
        paths.append(checkpoint)
        paths += checkpoint.glob("optimizer.ckpt")
        paths += checkpoint.glob("interpreter.ckpt")
        paths += checkpoint.glob("classifier.ckpt")
    for index in (folder / "cache").glob("*/index.json"):
        if not index.parent.name.startswith("."):
            paths.append(index)
    return [path.name for path in paths if not is_whole(path)]


def results(run: Path) -> dict[str, object]:
    """Everything of a finished run that must be the same to the bit: its metrics, and SHA-256 sums of its files."""
    kept: dict[str, object] = {"metrics": json.loads((run / "metrics.json").read_text())["metrics"]}
    for pattern in SAME_TO_THE_BIT:
        for path in run.glob(pattern):
            kept[str(path.relative_to(run))] = _sha256(path)
    return kept


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def random_moment(rng: random.Random, folder: Path, run: Path, seconds: float) -> Callable[[], bool]:
    """When to kill: at any time of the run, or just after it began to write something."""
    if rng.random() < 0.4:
        return after(rng.uniform(0, seconds))
    begun = [
        (folder, "cache/.building-*"),
        (run / "save", STAGED + "*"),
        (run / "save", STAGED + "*/optimizer.ckpt"),
        (run, STAGED + "*/*"),
        (run, STAGED + "*"),
        (run, "clips.csv"),
        (run, "media/*"),
        (run, "media/" + STAGED + "*"),
    ]
    parent, pattern = rng.choice(begun)
    delay = rng.choice((0, 0, 1e-3, 1e-2)) * rng.random()
    return seen(parent, pattern, delay)


def injure(undisturbed: Undisturbed, kills: int, rng: random.Random, base: Path) -> Tally:
    """Kill runs of a command that many times, up to three times in a row on one folder, and let each end at last."""
    tally, left = Tally(), kills
    while left > 0:
        folder = Path(tempfile.mkdtemp(dir=base))
        left -= _kill_in_a_row(undisturbed, min(3, left), rng, folder, tally)
        _run_to_the_end(undisturbed, folder, tally)
    return tally


def _kill_in_a_row(undisturbed: Undisturbed, times: int, rng: random.Random, folder: Path, tally: Tally) -> int:
    """Start a run and kill it, so many times; returns how many kills came before the run's end."""
    command, killed = undisturbed.command, 0
    run = command.run(folder)
    for _ in range(times):
        process = start(command.line(folder), folder / "log")
        if kill(process, random_moment(rng, folder, run, undisturbed.seconds)) is None:
            shutil.rmtree(folder / "out")  # it ended before the kill: begin again, with the cache in place
            continue
        killed += 1
        tally.phases[phase(folder, run)] += 1
        tally.half_written += half_written(folder, run)
    return killed


def _run_to_the_end(undisturbed: Undisturbed, folder: Path, tally: Tally) -> None:
    """Give the same command again and compare what it leaves with the undisturbed run."""
    command = undisturbed.command
    code = finish(command.line(folder), folder / "log")
    tally.runs += 1
    if code:
        tally.different.append(f"exit code {code}: {(folder / 'log').read_text()[-500:]}")
        return
    expected, resumed = undisturbed.results, results(command.run(folder))
    different = [name for name in sorted(expected | resumed) if expected.get(name) != resumed.get(name)]
    tally.identical += not different
    tally.different += different
    for path in (folder / "out").rglob(STAGED + "*"):
        tally.leftovers.append(str(path.relative_to(folder)))
    shutil.rmtree(folder)


def run_undisturbed(command: Command, folder: Path) -> Undisturbed:
    """Run a command to its end. Raises UsageError with the end of what it said when it fails."""
    log = folder.with_suffix(".log")
    started = time.monotonic()
    if finish(command.line(folder), log):
        raise UsageError(f"the undisturbed {command.script} failed: {log.read_text()[-2000:]}")
    return Undisturbed(command, results(command.run(folder)), time.monotonic() - started)


def measure(kills: int, seed: int, base: Path) -> dict[str, dict]:
    """Injure both commands, with half of the kills each; the facts that the documentation shows."""
    data = make_corpus(base / "data", clips_per_class=10, seconds=1.0, mixtures=0)
    training = commands(data, base)["train"]
    run_undisturbed(training, base / "classifier")
    classifier = training.run(base / "classifier") / "classifier"
    shares = {"train": kills // 2, "interpret": kills - kills // 2}
    rng, facts = random.Random(seed), {}
    for name, command in commands(data, classifier).items():
        undisturbed = run_undisturbed(command, base / name)
        facts[name] = injure(undisturbed, shares[name], rng, base).facts()
    return facts


def main(arguments: list[str]) -> None:
    """Entry point; see the module's docstring."""
    parser = tool_parser("kills", __doc__, seeded=True)
    parser.add_argument("--kills", type=positive, default=50)
    options = parser.parse_args(arguments)
    check_out(options.out)
    with tempfile.TemporaryDirectory() as base:
        facts = measure(options.kills, options.seed, Path(base))
    report_result(facts, options.out)


if __name__ == "__main__":
    entry(main)
