"""Speed and memory of every part, each measured in a process of its own, in one table.

    make bench                                                    everything of a size that a CPU can bear; minutes
    python -m tools.bench --only train,explain         the cases whose name begins so
    python -m tools.bench --long                       the papers' sizes too
    python -m tools.bench --device cuda --out docs/results/benchmarks/gpu.json

Weights are random and sounds are noise: arithmetic takes as long on them. `floor` is the time that the case's
multiplications would take at this machine's measured matrix rate, or its bytes at the measured copying rate;
`of floor` says how much of the measured time that explains: on a GPU, percent of the card's matrix rate. Peak memory is
that of the whole process. `waiting` is the share of a training step in which the network waits for the loader.
With `--docs` the table goes into a page, between `<!-- bench -->` and `<!-- /bench -->`.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch.utils.flop_counter import FlopCounterMode

from interpreters.base import Interpreter
from models.classifier import AudioClassifier
from models.frontend import Spectrogram
from recipes.classification import additive_margin_loss
from recipes.config.recipe import Recipe, load_recipe
from recipes.report.markdown import fill_tables, markdown_table
from recipes.scoring.batch import score_batch
from recipes.system.files import write_atomically
from recipes.training.brain import auto_precision

ROOT = Path(__file__).parents[1]
HPARAMS = ROOT / "hparams"
SECONDS, RATE = 5.0, 16000
SMALL_CLASSIFIERS = ("focalnet_scratch", "vit_scratch", "cnn14_scratch", "mobilenet")
PAPER_CLASSIFIERS = ("focalnet", "vit", "cnn14")
SMALL_INTERPRETERS = (
    "piq_focalnet_small",
    "piq_cnn14",
    "piq_mobilenet",
    "lmac",
    "lmac_focalnet",
    "lmac_mobilenet",
    "lmac_td_small",
    "lmac_td_mobilenet",
)
PAPER_INTERPRETERS = ("modulation", "piq_focalnet", "lmac_paper", "lmac_td")
SWEEP = tuple(k / 20 for k in range(10, 20))


@dataclass(frozen=True)
class Measured:
    """One case: what is counted, how many of it a call does, median seconds a call, and what bounds it."""

    unit: str
    items: int
    seconds: float
    flops: float = 0.0
    bytes: float = 0.0
    precision: str = "fp32"
    note: str = ""


def timed(call: Callable[[], object], budget: float, device: str, pick: Callable = statistics.median) -> float:
    """Seconds of a call after one that warms up, the median; as many calls as fit the budget, at least two."""

    def once() -> float:
        started = time.perf_counter()
        call()
        if device == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - started

    once()
    times = [once(), once()]
    while sum(times) < budget:
        times.append(once())
    return pick(times)


def flops_of(call: Callable[[], object]) -> float:
    """Floating-point operations of the convolutions and matrix products of a call."""
    with FlopCounterMode(display=False) as counter:
        call()
    return float(counter.get_total_flops())


forced: str | None = None
"""The precision of every case, whatever its recipe says (`--precision`)."""


def chosen(precision: str, device: str, *networks: torch.nn.Module) -> str:
    """A recipe's precision with `auto` replaced, as the Brain does."""
    precision = forced or precision
    return auto_precision(device, networks) if precision == "auto" else precision


@contextmanager
def autocast(device: str, precision: str) -> Iterator[None]:
    """What the Brain runs a recipe's `precision` in."""
    with torch.autocast(device, torch.bfloat16, enabled=precision == "bf16"):
        yield


def recipe_of(name: str) -> Recipe:
    """A recipe with nothing to download."""
    text = (HPARAMS / f"{name}.yaml").read_text(encoding="utf-8")
    return load_recipe(
        [str(HPARAMS / f"{name}.yaml"), "--data_folder=none", *(["--weights=null"] if "\nweights:" in text else [])]
    )


def noise(batch: int, device: str, seconds: float = SECONDS) -> torch.Tensor:
    """Waveforms [batch, seconds x 16 kHz]."""
    generator = torch.Generator().manual_seed(0)
    return (torch.randn(batch, round(seconds * RATE), generator=generator) / 10).to(device)


def subject(recipe: Recipe, device: str) -> tuple[AudioClassifier, Interpreter]:
    """The classifier that an interpreter's recipe names, with random weights, and the interpreter for it."""
    trained_by = Path(recipe.values["classifier"]).parts[-3]
    classifier = recipe_of(trained_by).build()["model"]["classifier"].to(device).freeze()
    settings = recipe.build()
    return classifier, settings["interpreter"]["interpreter"](info=classifier.describe()).to(device)


def train_classifier(name: str, device: str, budget: float) -> Measured:
    """A training step: front end, classifier, loss, gradient, optimiser."""
    settings = recipe_of(name).build()
    classifier, batch = settings["model"]["classifier"].to(device).train(), settings["batch_size"]
    optimizer, precision = settings["optimizer"](classifier.parameters()), settings["precision"]
    precision, waveform = chosen(precision, device, classifier), noise(batch, device)
    target = torch.nn.functional.one_hot(torch.arange(batch) % 50, 50).float().to(device)
    scale = classifier.describe().logit_scale

    def step() -> None:
        with autocast(device, precision):
            logits = classifier(classifier.frontend.analyze(waveform)).logits
            loss = additive_margin_loss(logits, target, settings["margin"], scale)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    seconds = timed(step, budget, device)
    return Measured("clip", batch, seconds, flops_of(step), precision=precision)


def train_interpreter(name: str, device: str, budget: float) -> Measured:
    """A training step: evidence, masks, the two passes of the loss, gradient, optimiser."""
    recipe = recipe_of(name)
    settings, (classifier, interpreter) = recipe.build(), subject(recipe, device)
    optimizer = settings["optimizer"](interpreter.train().parameters())
    waveform = noise(settings["batch_size"], device)
    precision = chosen(settings["precision"], device, classifier, interpreter)

    def step() -> None:
        with autocast(device, precision):
            spectrogram = classifier.frontend.analyze(waveform)
            with torch.no_grad():
                evidence = classifier(spectrogram)
            terms = interpreter.loss(classifier, spectrogram, evidence)
        sum(term.float() for term in terms.values()).mean().backward()
        optimizer.step()
        optimizer.zero_grad()

    seconds = timed(step, budget, device)
    size = sum(one.numel() for one in interpreter.parameters()) / 1e6
    return Measured("clip", len(waveform), seconds, flops_of(step), precision=precision, note=f"{size:.1f}M parameters")


def explain(name: str, device: str, budget: float) -> Measured:
    """One clip explained: classifier, interpreter, both sounds back."""
    classifier, interpreter = subject(recipe_of(name), device)
    interpreter.eval()
    waveform = noise(1, device)

    @torch.no_grad()
    def call() -> None:
        spectrogram = classifier.frontend.analyze(waveform)
        found = interpreter.interpret(classifier, spectrogram, classifier(spectrogram))
        classifier.frontend.synthesize(found.relevant), classifier.frontend.synthesize(found.residual)

    return Measured("clip", 1, timed(call, budget, device), flops_of(call))


def score(name: str, device: str, budget: float, quantiles: tuple[float, ...] = (), batch: int = 16) -> Measured:
    """Every score of a batch of clips, by 1 + 2Q classifier passes in the recipe's evaluation precision."""
    recipe = recipe_of(name)
    if quantiles:
        recipe = load_recipe([str(recipe.path), "--data_folder=none", f"--quantile={list(quantiles)}"])
    classifier, interpreter = subject(recipe, device)
    precision = chosen("auto", device, classifier, interpreter)
    spectrogram: Spectrogram = classifier.frontend.analyze(noise(batch, device))
    label = torch.zeros(batch, dtype=torch.long, device=device)

    @torch.no_grad()
    def call() -> None:
        with autocast(device, precision):
            for _ in score_batch(classifier, interpreter.eval(), spectrogram, label):
                pass

    return Measured("clip", batch, timed(call, budget, device), flops_of(call), precision=precision)


def front_end(device: str, budget: float) -> Measured:
    """Waveform to spectrogram, a batch of 64."""
    frontend = recipe_of("cnn14_scratch").build()["model"]["classifier"].frontend.to(device)
    waveform = noise(64, device)
    spectrogram = frontend.analyze(waveform)
    traffic = 4 * (waveform.numel() + 4 * spectrogram.log_magnitude.numel())
    return Measured("clip", 64, timed(lambda: frontend.analyze(waveform), budget, device), bytes=traffic)


def data(device: str, budget: float, prepared: bool) -> Measured:
    """Clips a second out of the cache in batches of 32, or into it."""
    from recipes.data.clips import fold_set, loader_options, prepare
    from recipes.synthetic import make_corpus

    del device
    with tempfile.TemporaryDirectory() as folder:
        make_corpus(Path(folder) / "set", clips_per_class=20, seconds=SECONDS)
        started = time.perf_counter()
        store = prepare(Path(folder) / "set", Path(folder) / "cache", RATE, SECONDS)
        seconds, count = time.perf_counter() - started, len(store)
        if not prepared:
            return Measured("clip", count, seconds, bytes=4.0 * store.num_samples * count)
        dataset = fold_set(store, store.corpus.folds, 32)
        loader = torch.utils.data.DataLoader(dataset, **loader_options(32, shuffle=True))
        return Measured(
            "clip", count // 32 * 32, timed(lambda: list(loader), budget, "cpu"), bytes=6.0 * store.num_samples * count
        )


def start_up(device: str, budget: float) -> Measured:
    """From the command to the first refusal of a value: imports, YAML, checks."""
    del device
    command = [sys.executable, "interpret.py", "hparams/lmac.yaml", "--data_folder=none", "--epochs=-1"]
    call = lambda: subprocess.run(command, cwd=ROOT, capture_output=True, check=False)  # noqa: E731
    return Measured("start", 1, timed(call, budget, "cpu"))


def cases(long: bool) -> dict[str, Callable[[str, float], Measured]]:
    """Every case by name."""
    classifiers = SMALL_CLASSIFIERS + (PAPER_CLASSIFIERS if long else ("focalnet",))
    methods = SMALL_INTERPRETERS + (PAPER_INTERPRETERS if long else ("modulation",))
    found: dict[str, Callable[[str, float], Measured]] = {
        "start": start_up,
        "prepare": lambda device, budget: data(device, budget, prepared=False),
        "load": lambda device, budget: data(device, budget, prepared=True),
        "front end": front_end,
    }
    for name in classifiers:
        found[f"train {name}"] = lambda device, budget, name=name: train_classifier(name, device, budget)
    for name in methods:
        if not name.startswith("modulation"):
            found[f"train {name}"] = lambda device, budget, name=name: train_interpreter(name, device, budget)
        found[f"explain {name}"] = lambda device, budget, name=name: explain(name, device, budget)
    for name in ("modulation", "lmac"):
        found[f"score {name}"] = lambda device, budget, name=name: score(name, device, budget)
    found["sweep 10 quantiles, modulation"] = lambda device, budget: score("modulation", device, budget, SWEEP)
    return found


def rates(device: str) -> dict[str, float]:
    """Operations a second of large matrix products by precision, and bytes a second of a copy: the best of some."""
    size, found = (2048, {}) if device == "cpu" else (8192, {})
    for precision, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
        one = torch.randn(size, size, device=device, dtype=dtype)
        found[precision] = 2 * size**3 / timed(lambda one=one: one @ one, 1.0, device, min)
    block = torch.zeros(2**26, device=device)
    other = torch.empty_like(block)
    found["bytes"] = 2 * block.nbytes / timed(lambda: other.copy_(block), 1.0, device, min)
    return found


def row(name: str, found: dict, rate: dict[str, float], loading: float | None) -> list[str]:
    """A case as the table shows it; loading: seconds a clip out of the cache."""
    floor = max(found["flops"] / rate[found["precision"]], found["bytes"] / rate["bytes"])
    each, notes = found["seconds"] / found["items"], [found["note"]] if found["note"] else []
    if name.startswith("train") and loading:
        notes.append(f"waiting {loading / (loading + each):.1%}")
    return [
        name,
        found["precision"],
        str(found["items"]),
        f"{found['items'] / found['seconds']:.3g}",
        f"{1000 * each:.3g}",
        f"{floor / found['seconds']:.0%}" if floor else "",
        f"{found['peak_gb']:.2f}",
        ", ".join(notes),
    ]


def main() -> None:
    """Run the cases, print the table and keep the figures where `--out` says."""
    global forced
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", help="beginnings of case names, separated by commas")
    parser.add_argument("--long", action="store_true", help="the papers' sizes too")
    parser.add_argument("--budget", type=float, default=3.0, help="seconds of measuring a case")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--out", type=Path, help="JSON")
    parser.add_argument("--docs", type=Path, help="a page whose table to replace")
    parser.add_argument("--case", help=argparse.SUPPRESS)
    parser.add_argument("--precision", choices=("auto", "fp32", "bf16"), help="of every case, whatever its recipe says")
    options = parser.parse_args()
    forced = options.precision
    torch.set_num_threads(options.threads)
    if options.case:
        found = asdict(cases(True)[options.case](options.device, options.budget))
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        if options.device == "cuda":
            peak = torch.cuda.max_memory_allocated()
        print(json.dumps(found | {"peak_gb": peak / 1e9}))
        return
    machine = torch.cuda.get_device_name() if options.device == "cuda" else f"cpu, {options.threads} threads"
    rate, results = rates(options.device), {}
    for name in cases(options.long):
        if not name.startswith(tuple(options.only.split(","))):
            continue
        command = [sys.executable, "-m", "tools.bench", "--case", name, "--device", options.device]
        command += ["--budget", str(options.budget), "--threads", str(options.threads)]
        command += ["--precision", forced] if forced else []
        print(f"{name} …", file=sys.stderr, flush=True)
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        if done.returncode:
            sys.exit(f"error: {name} failed:\n{done.stderr[-2000:]}")
        results[name] = json.loads(done.stdout.splitlines()[-1])
    header = ["case", "precision", "batch", "items/s", "ms an item", "of floor", "peak GB", ""]
    loading = results["load"]["seconds"] / results["load"]["items"] if "load" in results else None
    table = f"{machine}: " + ", ".join(f"{key} {value / 1e9:.0f} G/s" for key, value in rate.items()) + "\n\n"
    table += markdown_table(header, [row(name, found, rate, loading) for name, found in results.items()])
    print(table)
    if options.docs:
        page = options.docs.read_text(encoding="utf-8")
        write_atomically(options.docs, fill_tables(page, {"bench": table}).encode())
    if options.out:
        content = {"device": machine, "torch": torch.__version__, "rates": rate, "cases": results}
        write_atomically(options.out, (json.dumps(content, indent=2) + "\n").encode())


if __name__ == "__main__":
    main()
