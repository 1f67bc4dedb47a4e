"""Clips a second of the papers' classifiers in training and scoring, by how their networks are run.

    python -m tools.throughput --device=cuda --out=docs/results/benchmarks/gpu.json
    python -m tools.throughput --networks focalnet --variants eager compiled --batch_size=4

Everything is measured in one process, until `--seconds` are over; each row is printed as soon
as it is known. Weights are random and sounds are noise. `of the rate` is the share of this device's matrix rate
that the products of a call use. `syncs` counts how often a call of the row makes the host wait for a GPU, as
`torch.cuda.set_sync_debug_mode` sees it. `first` is what the first call took, compilation included.
"""

import argparse
import json
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

import torch
from torch import nn

from models.classifier import AudioClassifier
from models.errors import UsageError
from models.focal_modulation import Layer
from recipes.report.markdown import markdown_table
from recipes.system.entry import entry
from recipes.training.brain import multiply_in_float32
from recipes.training.classifier_brain import check_batch_size
from tools.bench import rates
from tools.bench_cases import Bench, flops_of, recipe_of, scoring_call, timed, training_step
from tools.runner import check_out, positive, save_result, tool_parser

NETWORKS = {"focalnet": "modulation", "vit": "attention", "cnn14": "control_loudest"}
"""By recipe of a classifier: the interpreter whose scoring is measured."""
VARIANTS = ("eager", "channels_last", "compiled")
HEADER = ["network", "stage", "variant", "of the rate", "clips/s", "ms a clip", "batch", "peak GB", "syncs", "first s"]


@dataclass(frozen=True)
class Row:
    """One network in one stage and variant; seconds of a call, and of the first one."""

    network: str
    stage: str
    variant: str
    precision: str
    batch: int
    seconds: float
    flops: float
    peak_gb: float
    syncs: int
    warm_up: float

    def cells(self, rate: dict[str, float]) -> list[str]:
        """As `HEADER` names them."""
        share = self.flops / rate[self.precision] / self.seconds
        clips, milliseconds = self.batch / self.seconds, 1000 * self.seconds / self.batch
        figures = [f"{share:.0%}", f"{clips:.4g}", f"{milliseconds:.4g}", str(self.batch), f"{self.peak_gb:.1f}"]
        return [self.network, self.stage, self.variant, *figures, str(self.syncs), f"{self.warm_up:.1f}"]


def compile_regions(backbone: nn.Module) -> None:
    """Compile the parts that repeat, one program a shape, in place of a whole network with its minutes of compiling.

    The last layer, whose map hooks read, stays as it is.
    """
    layers = [module for module in backbone.modules() if isinstance(module, Layer)]
    for layer in layers[:-1]:
        layer.modulated = torch.compile(layer.modulated, dynamic=False)  # type: ignore[method-assign]
        layer.transformed = torch.compile(layer.transformed, dynamic=False)  # type: ignore[method-assign]
    repeated = [module for module in backbone.modules() if type(module).__name__ in ("ViTLayer", "ConvBlock")]
    for module in repeated[:-1]:
        module.forward = torch.compile(module.forward, dynamic=False)  # type: ignore[method-assign]


def prepare(network: str, variant: str, device: str) -> AudioClassifier:
    """A classifier with random weights, run as the variant says."""
    classifier = recipe_of(network).build()["model"]["classifier"].to(device)
    if variant == "channels_last":
        classifier.backbone.to(memory_format=torch.channels_last)
    elif variant == "compiled":
        torch._dynamo.reset()
        torch._dynamo.config.recompile_limit = 64
        compile_regions(classifier.backbone)
    return classifier


def training_call(network: str, classifier: AudioClassifier, bench: Bench, batch: int) -> Callable[[], object]:
    """A training step: front end, classifier, loss, gradient, optimiser."""
    recipe = recipe_of(network)
    return training_step(recipe.build(), recipe.values, classifier, bench, batch)


def scoring_call_of(network: str, classifier: AudioClassifier, bench: Bench, batch: int) -> Callable[[], object]:
    """All scores of a batch at one quantile: three passes of the classifier."""
    info = classifier.freeze().describe()
    interpreter = recipe_of(NETWORKS[network]).build()["interpreter"]["interpreter"](info=info).to(bench.device)
    return scoring_call(classifier, interpreter, bench, batch)


CALLS = {"train": training_call, "score": scoring_call_of}


def check_batches(networks: Sequence[str], stages: Sequence[str], batch: int) -> None:
    """Raises UsageError, before anything is measured, for batches that a network cannot be trained on."""
    if batch > 1 or "train" not in stages:
        return
    for network in networks:
        try:
            check_batch_size(recipe_of(network).build()["model"]["classifier"], batch)
        except UsageError as error:
            raise UsageError(f"{network}: {error}; or pass --stages score") from error


def synchronisations(call: Callable[[], object], device: str) -> int:
    """How often a call makes the host wait for the GPU; 0 without one."""
    if device != "cuda":
        return 0
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            call()
        finally:
            torch.cuda.set_sync_debug_mode("default")
    return sum("synchronizing CUDA operation" in str(warning.message) for warning in caught)


def measure(network: str, stage: str, variant: str, bench: Bench, batch: int) -> Row:
    """One row."""
    on_gpu = bench.device == "cuda"
    if on_gpu:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    call = CALLS[stage](network, prepare(network, variant, bench.device), bench, batch)
    started = time.perf_counter()
    call()
    if on_gpu:
        torch.cuda.synchronize()
    warm_up = time.perf_counter() - started
    seconds = timed(call, bench.budget, bench.device)
    peak = torch.cuda.max_memory_allocated() / 1e9 if on_gpu else 0.0
    syncs = synchronisations(call, bench.device)
    if variant == "compiled":  # what was compiled counts no operations
        call = CALLS[stage](network, prepare(network, "eager", bench.device), bench, batch)
    flops = flops_of(call)
    return Row(network, stage, variant, bench.precision or "fp32", batch, seconds, flops, peak, syncs, warm_up)


def read_options(arguments: list[str]) -> argparse.Namespace:
    """The command line."""
    parser = tool_parser("throughput", __doc__)
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--stages", nargs="+", choices=CALLS, default=list(CALLS))
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS))
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="bf16")
    parser.add_argument("--batch_size", type=positive, default=64)
    parser.add_argument("--budget", type=float, default=0.5, help="seconds of measuring a row")
    parser.add_argument("--seconds", type=float, default=600.0, help="after which no row is begun")
    return parser.parse_args(arguments)


def main(arguments: list[str]) -> None:
    """Entry point; see the module's docstring."""
    options = read_options(arguments)
    check_out(options.out)
    check_batches(options.networks, options.stages, options.batch_size)
    multiply_in_float32()
    started = time.monotonic()
    bench = Bench(options.device, options.budget, options.precision)
    rate = rates(options.device, [options.precision])
    machine = torch.cuda.get_device_name() if options.device == "cuda" else "cpu"
    rows: list[Row] = []
    for variant in options.variants:
        for stage in options.stages:
            for network in options.networks:
                if time.monotonic() - started > options.seconds:
                    continue
                row = measure(network, stage, variant, bench, options.batch_size)
                rows.append(row)
                print(json.dumps(asdict(row)), file=sys.stderr, flush=True)
                facts = {"device": machine, "torch": torch.__version__, "rates": rate}
                save_result(facts | {"rows": [asdict(measured) for measured in rows]}, options.out)
    print(markdown_table(HEADER, [row.cells(rate) for row in rows]))


if __name__ == "__main__":
    entry(main)
