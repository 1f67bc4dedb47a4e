"""What `tools.bench` measures: a case builds its networks with random weights and times one call of them."""

import math
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch.utils.data import DataLoader
from torch.utils.flop_counter import FlopCounterMode
from torch.utils.module_tracker import ModuleTracker

from interpreters.base import Interpreter, masked
from interpreters.masking import masking_terms
from models.classifier import AudioClassifier
from recipes.config.compose import compose, setting_names
from recipes.config.recipe import Recipe, Settings, load_recipe
from recipes.data.clips import fold_set, loader_options
from recipes.data.preparation import prepare
from recipes.runs.places import recipe_of as path_of
from recipes.scoring.batch import LabelledClips, score_batch
from recipes.synthetic import make_corpus
from recipes.training.brain import auto_precision
from recipes.training.losses import classifier_loss
from tools.runner import ROOT
from tools.startup import commands, cpu_seconds, make_demo

HPARAMS = ROOT / "hparams"
SECONDS, RATE = 5.0, 16000
SCORING_BATCH = 16
SMALL_CLASSIFIERS = ("focalnet_scratch", "vit_scratch", "cnn14_scratch", "mobilenet", "focalnet")
PAPER_CLASSIFIERS = ("paper/focalnet", "paper/vit", "paper/cnn14")
SMALL_INTERPRETERS = (
    "piq_focalnet_small",
    "piq_cnn14",
    "piq_mobilenet",
    "lmac",
    "lmac_focalnet",
    "lmac_mobilenet",
    "lmac_td_small",
    "lmac_td_mobilenet",
    "modulation",
)
PAPER_INTERPRETERS = ("paper/focalnet_piq", "paper/vit_piq", "paper/lmac", "paper/l2i", "paper/lmac_td_alpha075")
GRADIENTS = (
    "gradient",
    "input_x_gradient",
    "grad_cam",
    "guided_grad_cam",
    "smoothgrad",
    "integrated_gradients",
    "gradient_shap",
    "amortized_mobilenet",
)
SURROGATES = ("occlusion", "lime", "kernel_shap")
SEARCHES = ("extremal", "freqrise", "segments", "audiolime")  # nothing is trained, and a clip takes seconds
CONVOLUTION_BACKWARD = torch.ops.aten.convolution_backward
SWEEP = tuple(k / 20 for k in range(10, 20))
"""Ten quantiles, from 0.5 to 0.95."""


@dataclass(frozen=True)
class Bench:
    """How to measure: the device, the seconds that a case may take, and a precision that overrules the recipes'."""

    device: str = "cpu"
    budget: float = 3.0
    precision: str | None = None

    def precision_of(self, recipes_own: str, *networks: torch.nn.Module) -> str:
        """The precision of a case, with `auto` replaced as the Brain does."""
        precision = self.precision or recipes_own
        return auto_precision(self.device, networks) if precision == "auto" else precision

    def autocast(self, precision: str) -> torch.autocast:
        """The context in which the Brain runs a precision."""
        return torch.autocast(self.device, torch.bfloat16, enabled=precision == "bf16")

    def noise(self, batch: int) -> torch.Tensor:
        """Waveforms [batch, SECONDS x RATE]."""
        generator = torch.Generator().manual_seed(0)
        return (torch.randn(batch, round(SECONDS * RATE), generator=generator) / 10).to(self.device)


@dataclass(frozen=True)
class Measured:
    """One case: median seconds of a call, how many items the call handles, and what bounds its time."""

    items: int
    seconds: float
    flops: float = 0.0
    bytes: float = 0.0
    precision: str = "fp32"
    note: str = ""


Case = Callable[[Bench], Measured]


def timed(call: Callable[[], object], budget: float, device: str, pick: Callable = statistics.median) -> float:
    """Seconds of a call, the median of as many calls as fit the budget, at least two, after one that warms up."""

    # one thread's time on the processor is the same whatever else the machine does
    clock = time.process_time if device == "cpu" and torch.get_num_threads() == 1 else time.perf_counter

    def once() -> float:
        started = clock()
        call()
        if device == "cuda":
            torch.cuda.synchronize()
        return clock() - started

    once()
    times = [once(), once()]
    while sum(times) < budget:
        times.append(once())
    return pick(times)


class _NoModules(ModuleTracker):
    """Counts for the whole network: torch's own hooks on modules refuse `autograd.grad` by an input."""

    def __enter__(self):
        self.parents = {"Global"}
        return self

    def __exit__(self, *raised):
        pass


def flops_of(call: Callable[[], object]) -> float:
    """Floating-point operations of the convolutions and matrix products of a call."""
    counter = FlopCounterMode(display=False, custom_mapping={CONVOLUTION_BACKWARD: _convolution_backward_flops})
    counter.mod_tracker = _NoModules()
    with counter:
        call()
    return float(counter.get_total_flops())


def _convolution_backward_flops(slope, x, weight, *settings, out_shape=None) -> int:
    """Operations of a convolution's gradients, from the shapes of its output's gradient, its input and its weights.

    Torch's own count takes every kernel of a depthwise convolution to see all channels.
    """
    *_, transposed, _, _, wanted = settings
    positions = math.prod(x if transposed else slope)
    of_weight, of_input = wanted[1], wanted[0]
    return 2 * positions * math.prod(weight[1:]) * (of_weight + of_input)


def recipe_of(name: str, *changes: str) -> Recipe:
    """A recipe below hparams/, by its path without the suffix, that downloads nothing."""
    path = HPARAMS / f"{name}.yaml"
    known = setting_names(compose(path).expanded())
    weights = ["--weights=null"] if "model.weights" in known else []
    return load_recipe([str(path), "--data_folder=none", *weights, *changes])


def networks_of(recipe: Recipe, device: str) -> tuple[AudioClassifier, Interpreter]:
    """The classifier that an interpreter's recipe names, with random weights, and the interpreter for it."""
    classifier_recipe = Path(path_of(Path(recipe.values["classifier"]).parts[-3])).relative_to("hparams")
    classifier = recipe_of(str(classifier_recipe.with_suffix(""))).build()["model"]["classifier"].to(device).freeze()
    interpreter = recipe.build()["interpreter"]["interpreter"](info=classifier.describe())
    return classifier, interpreter.to(device)


def training_step(
    objects: Settings, values: dict, classifier: AudioClassifier, bench: Bench, batch: int
) -> Callable[[], object]:
    """A training step: front end, classifier, loss, gradient, optimiser.

    objects, values: of the classifier's recipe, for the optimiser and the loss.
    """
    optimizer = objects["optimizer"](classifier.train().parameters())
    precision = bench.precision_of(values["precision"], classifier)
    waveform, loss_of = bench.noise(batch), classifier_loss(values, classifier)
    target = torch.nn.functional.one_hot(torch.arange(batch) % 50, 50).float().to(bench.device)

    def step() -> None:
        with bench.autocast(precision):
            logits = classifier(classifier.frontend.analyze(waveform)).logits
            loss = loss_of(logits, target)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def train_classifier(name: str, bench: Bench) -> Measured:
    """`training_step` as the recipe says."""
    recipe = recipe_of(name)
    objects, values = recipe.build(), recipe.values
    classifier, batch = objects["model"]["classifier"].to(bench.device), values["batch_size"]
    precision = bench.precision_of(values["precision"], classifier)
    step = training_step(objects, values, classifier, bench, batch)
    seconds = timed(step, bench.budget, bench.device)
    return Measured(batch, seconds, flops_of(step), precision=precision)


def train_interpreter(name: str, bench: Bench) -> Measured:
    """A training step: evidence, masks, the two passes of the loss, gradient, optimiser.

    Where the Brain keeps the evidence of a recipe's clips, as on a CPU where they are unchanged, so does this.
    """
    recipe = recipe_of(name)
    objects, values = recipe.build(), recipe.values
    classifier, interpreter = networks_of(recipe, bench.device)
    optimizer = objects["optimizer"](interpreter.train().parameters())
    waveform = bench.noise(values["batch_size"])
    precision = bench.precision_of(values["precision"], classifier, interpreter)
    with bench.autocast(precision), torch.no_grad():
        kept = classifier(classifier.frontend.analyze(waveform))
    keeps = bench.device == "cpu" and values["train_noise"] == "clean" and values["epochs"] > 1

    def step() -> None:
        with bench.autocast(precision):
            spectrogram = classifier.frontend.analyze(waveform)
            with torch.no_grad():
                evidence = kept if keeps else classifier(spectrogram)
            terms = interpreter.loss(classifier, spectrogram, evidence)
        torch.stack([term.float() for term in terms.values()]).sum(dim=0).mean().backward()
        optimizer.step()
        optimizer.zero_grad()

    seconds = timed(step, bench.budget, bench.device)
    parameters = sum(parameter.numel() for parameter in interpreter.parameters())
    note = f"{parameters / 1e6:.1f}M parameters{', evidence kept' if keeps else ''}"
    return Measured(len(waveform), seconds, flops_of(step), precision=precision, note=note)


def explain(name: str, bench: Bench) -> Measured:
    """One clip explained: classifier, interpreter, and the sound of both parts."""
    classifier, interpreter = networks_of(recipe_of(name), bench.device)
    interpreter.eval()
    waveform = bench.noise(1)

    @torch.no_grad()
    def call() -> None:
        spectrogram = classifier.frontend.analyze(waveform)
        interpretation = interpreter.interpret(classifier, spectrogram, classifier(spectrogram))
        classifier.frontend.synthesize(interpretation.relevant)
        classifier.frontend.synthesize(interpretation.residual)

    return Measured(1, timed(call, bench.budget, bench.device), flops_of(call))


def scoring_call(
    classifier: AudioClassifier, interpreter: Interpreter, bench: Bench, batch: int
) -> Callable[[], object]:
    """Every score of a batch of clips, by 1 + 2Q classifier passes in the precision of `eval_precision: auto`."""
    precision = bench.precision_of("auto", classifier, interpreter.eval())
    spectrogram = classifier.frontend.analyze(bench.noise(batch))
    no_label = torch.zeros(batch, classifier.describe().num_classes, dtype=torch.bool, device=bench.device)
    clips = LabelledClips(spectrogram, no_label)

    @torch.no_grad()
    def call() -> None:
        with bench.autocast(precision):
            for _ in score_batch(classifier, interpreter, clips):
                pass

    return call


def score(name: str, bench: Bench, *changes: str) -> Measured:
    """`scoring_call` of an interpreter's recipe."""
    classifier, interpreter = networks_of(recipe_of(name, *changes), bench.device)
    precision = bench.precision_of("auto", classifier, interpreter)
    call = scoring_call(classifier, interpreter, bench, SCORING_BATCH)
    seconds = timed(call, bench.budget, bench.device)
    return Measured(SCORING_BATCH, seconds, flops_of(call), precision=precision)


def mask_step(name: str, bench: Bench) -> Measured:
    """What optimising a mask asks of a classifier: both parts heard, and the gradient by the mask."""
    classifier = recipe_of(name).build()["model"]["classifier"].to(bench.device).freeze()
    spectrogram = classifier.frontend.analyze(bench.noise(SCORING_BATCH // 2))
    target = classifier(spectrogram).prediction
    mask = torch.full_like(spectrogram.log_magnitude, 0.5).requires_grad_()

    def step() -> None:
        parts = masked(spectrogram, mask, target)
        terms = masking_terms(classifier, parts.relevant, parts.residual, target, 1.0, 1.0)
        torch.autograd.grad(torch.stack(list(terms.values())).sum(), mask)

    return Measured(len(spectrogram), timed(step, bench.budget, bench.device), flops_of(step))


def front_end(bench: Bench) -> Measured:
    """Waveform to spectrogram, a batch of 64."""
    frontend = recipe_of("cnn14_scratch").build()["model"]["classifier"].frontend.to(bench.device)
    waveform = bench.noise(64)
    spectrogram = frontend.analyze(waveform)
    traffic = 4 * (waveform.numel() + 4 * spectrogram.log_magnitude.numel())
    seconds = timed(lambda: frontend.analyze(waveform), bench.budget, bench.device)
    return Measured(64, seconds, bytes=traffic)


def prepare_data(bench: Bench) -> Measured:
    """Clips a second into the cache."""
    del bench
    with tempfile.TemporaryDirectory() as folder:
        data = make_corpus(Path(folder) / "set", clips_per_class=20, seconds=SECONDS)
        started = time.perf_counter()
        store = prepare(data, Path(folder) / "cache", RATE, SECONDS)
        seconds = time.perf_counter() - started
        return Measured(len(store), seconds, bytes=4.0 * store.num_samples * len(store))


def load_data(bench: Bench) -> Measured:
    """Clips a second out of the cache, in shuffled batches of 32."""
    with tempfile.TemporaryDirectory() as folder:
        data = make_corpus(Path(folder) / "set", clips_per_class=20, seconds=SECONDS)
        store = prepare(data, Path(folder) / "cache", RATE, SECONDS)
        dataset = fold_set(store, store.corpus.folds, 32)
        loader = DataLoader(dataset, **loader_options(32, shuffle=True))
        seconds = timed(lambda: list(loader), bench.budget, "cpu")
        return Measured(len(store) // 32 * 32, seconds, bytes=6.0 * store.num_samples * len(store))


def start_up(name: str, bench: Bench) -> Measured:
    """CPU seconds from a command to its answer: imports, YAML, checks, and for a sound the explanation."""
    del bench
    with tempfile.TemporaryDirectory() as folder:
        arguments = commands(make_demo(Path(folder)))[name]
        return Measured(1, cpu_seconds(arguments, ROOT), note="CPU seconds")


def all_cases(long: bool) -> dict[str, Case]:
    """Every case by name; long: those of the papers' sizes too."""
    classifiers = SMALL_CLASSIFIERS + (PAPER_CLASSIFIERS if long else ())
    methods = SMALL_INTERPRETERS + (PAPER_INTERPRETERS if long else ())
    cases: dict[str, Case] = {f"start: {name}": partial(start_up, name) for name in commands(Path())}
    cases |= {
        "prepare": prepare_data,
        "load": load_data,
        "front end": front_end,
    }
    for name in classifiers:
        cases[f"train {name}"] = partial(train_classifier, name)
        cases[f"mask step {name}"] = partial(mask_step, name)
    for name in methods:
        if name != "modulation":  # nothing in it is trained
            cases[f"train {name}"] = partial(train_interpreter, name)
        cases[f"explain {name}"] = partial(explain, name)
    for name in (*GRADIENTS, *SURROGATES, *SEARCHES):
        cases[f"explain {name}"] = partial(explain, name)
    for name in ("modulation", "lmac"):
        cases[f"score {name}"] = partial(score, name)
    cases["sweep 10 quantiles, modulation"] = lambda bench: score("modulation", bench, f"--quantile={list(SWEEP)}")
    return cases
