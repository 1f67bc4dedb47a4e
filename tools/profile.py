"""Where the CPU time of a classifier goes, by kind of operation, beside the least that its products need.

    python -m tools.profile                                       training steps and scoring passes of four classifiers
    python -m tools.profile --only "train cnn14" --precision=bf16 --out=data/profile.json

Weights are random and sounds are noise. Each line is the fastest of some steps under torch's profiler, which measures
the wall clock: run it on a quiet machine. The floor is the time that the convolutions and matrix products of the step
take at the rate of a large product, measured just before, on one thread. What no operation accounts for is "other":
Python, and the profiler itself.
"""

import time
from collections import defaultdict
from collections.abc import Callable

import torch
from torch.autograd.profiler_util import FunctionEventAvg
from torch.profiler import ProfilerActivity, profile, schedule

from models.errors import UsageError
from recipes.report.markdown import markdown_table
from recipes.system.entry import entry
from recipes.training.brain import multiply_in_float32
from tools.bench import instructions, rates
from tools.bench_cases import Bench, flops_of, recipe_of, training_step
from tools.runner import check_out, save_result, tool_parser

CLASSIFIERS = {
    "focalnet": ("paper/focalnet", 3),
    "vit": ("paper/vit", 3),
    "cnn14": ("paper/cnn14", 6),
    "mobilenet": ("mobilenet", 16),
}
"""Recipe and batch size by name."""
STEPS = 3
KINDS = {
    "batch norm": ("batch_norm",),
    "layer norm": ("layer_norm",),
    "activations": ("gelu", "threshold", "relu", "hardswish", "hardtanh", "clamp_min", "sigmoid"),
    "layout": ("copy_", "cat", "pad_nd", "index", "clone"),
    "optimiser": ("_fused_adam",),
    "front end": ("fft", "log1p", "expm1", "vector_norm", "sgn", "reflection_pad"),
    "products": ("_linear_pointwise", "attention", "addmm", "mm"),
    "convolutions": ("convolution", "conv2d"),
}
"""Parts of the names of operations by kind; the first kind that fits counts."""
COLUMNS = ("products", "convolutions", "depthwise", *list(KINDS)[:6], "elementwise", "other")


def kind_of(event: FunctionEventAvg) -> str:
    """The kind of an operation; a convolution whose kernels see one channel each is a depthwise one."""
    library, _, name = str(event.key).partition("::")
    if library not in ("aten", "mkldnn"):
        return "other"
    for kind, parts in KINDS.items():
        if any(part in name for part in parts):
            return "depthwise" if kind == "convolutions" and _is_depthwise(event) else kind
    return "elementwise"


def _is_depthwise(event: FunctionEventAvg) -> bool:
    kernels = [shape for shape in event.input_shapes or [] if len(shape) == 4][-1:]
    return bool(kernels) and kernels[0][1] == 1 and kernels[0][0] > 1


def split(step: Callable[[], object]) -> dict[str, float]:
    """Seconds of a step by kind, of the fastest of `STEPS`."""
    step()
    fastest: dict[str, float] = {}
    for _ in range(STEPS):
        plan = schedule(wait=0, warmup=1, active=1)
        with profile(activities=[ProfilerActivity.CPU], record_shapes=True, acc_events=True, schedule=plan) as profiled:
            for _ in range(2):
                started = time.perf_counter()
                step()
                seconds = time.perf_counter() - started
                profiled.step()
        parts: dict[str, float] = defaultdict(float)
        for event in profiled.key_averages(group_by_input_shape=True):
            parts[kind_of(event)] += event.self_cpu_time_total / 1e6
        parts["other"] = max(0.0, seconds - sum(value for kind, value in parts.items() if kind != "other"))
        if not fastest or sum(parts.values()) < sum(fastest.values()):
            fastest = dict(parts)
    return fastest


def measure(stage: str, name: str, precision: str) -> dict[str, float]:
    """Milliseconds a clip: by kind, in all ("all") and of the floor ("floor")."""
    recipe_name, batch = CLASSIFIERS[name]
    bench, recipe = Bench(precision=precision), recipe_of(recipe_name)
    objects = recipe.build()
    classifier = objects["model"]["classifier"]
    spectrogram = classifier.frontend.analyze(bench.noise(batch))

    @torch.no_grad()
    def score() -> None:
        with bench.autocast(precision):
            classifier(spectrogram)

    call: Callable[[], object] = score
    if stage == "train":
        call = training_step(objects, recipe.values, classifier, bench, batch)
    else:
        classifier.freeze()
    operations, rate = flops_of(call), rates("cpu", [precision])[precision]
    parts = split(call)
    milliseconds = {kind: 1000 * seconds / batch for kind, seconds in parts.items()}
    return milliseconds | {"all": sum(milliseconds.values()), "floor": 1000 * operations / rate / batch}


def table(cases: dict[str, dict[str, float]]) -> str:
    """The cases as Markdown, each kind as a share of the whole."""
    rows = []
    for name, case in cases.items():
        shares = [f"{case.get(kind, 0) / case['all']:.0%}" for kind in COLUMNS]
        rows.append([name, f"{case['floor'] / case['all']:.0%}", instructions(), *shares, f"{case['all']:.0f}"])
    return markdown_table(["step", "of floor", "cpu", *COLUMNS, "ms a clip"], rows)


def main(arguments: list[str]) -> None:
    """Entry point; see the module's docstring. Raises UsageError where `--only` chooses nothing."""
    parser = tool_parser("profile", __doc__)
    parser.add_argument("--only", default="", help="the beginning of a step's name")
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32")
    options = parser.parse_args(arguments)
    check_out(options.out)
    multiply_in_float32()
    torch.set_num_threads(1)
    steps = [(stage, name) for stage in ("train", "score") for name in CLASSIFIERS]
    chosen = [(stage, name) for stage, name in steps if f"{stage} {name}".startswith(options.only)]
    if not chosen:
        raise UsageError(f"--only={options.only} chooses no step: they begin with train or score")
    cases = {f"{stage} {name}": measure(stage, name, options.precision) for stage, name in chosen}
    print(table(cases))
    content = {"cpu": instructions(), "precision": options.precision, "torch": torch.__version__, "cases": cases}
    save_result(content, options.out)


if __name__ == "__main__":
    entry(main)
