"""Speed and memory of every part, each measured in a process of its own, in one table.

    make bench                                         everything of a size that a CPU can bear; minutes
    python -m tools.bench --only train,explain         the cases whose name begins so
    python -m tools.bench --long                       the papers' sizes too
    python -m tools.bench --before ../older --only "train lmac"     beside another checkout of this project
    python -m tools.bench --device cuda --out docs/results/benchmarks/gpu.json

Weights are random and sounds are noise: arithmetic takes as long on them. `floor` is the time that the case's
multiplications would take at this machine's measured matrix rate, or its bytes at the measured copying rate. `of floor`
is the share of the measured time that the floor explains. A row names the instructions that its time rests on. Peak
memory is that of the whole process, on a GPU that of the card. `waiting` is the share of a training step in which the
network waits for the loader. With `--before` every case is measured here and there in turn, `TURNS` times, and `ratio`
is the median of the times there over that of the times here. With `--docs` the table goes into a page, between
`<!-- bench -->` and `<!-- /bench -->`.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import asdict
from functools import partial
from pathlib import Path

import torch

from models.errors import UsageError
from recipes.report.markdown import fill_tables, markdown_table
from recipes.system.entry import entry
from recipes.system.files import write_atomically
from recipes.training.brain import multiply_in_float32
from tools.bench_cases import Bench, all_cases, timed
from tools.runner import ROOT, check_out, positive, save_result, tool_parser

HEADER = ["case", "ratio", "of floor", "cpu", "precision", "batch", "peak GB", "items/s", "ms an item", ""]
TURNS = 3
INSTRUCTIONS = {"amx_bf16": "AMX", "avx512_bf16": "AVX-512 BF16", "avx512_f": "AVX-512", "avx2": "AVX2"}
"""By torch's name of an instruction set, best first, how a table names it."""


DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


def rates(device: str, precisions: Iterable[str]) -> dict[str, float]:
    """Operations a second of large matrix products by precision, and bytes a second of a copy: the best of some.

    precisions: those that are used; a CPU that emulates bf16 takes minutes for one product in it.
    """
    size = 2048 if device == "cpu" else 8192
    fastest = {}
    for precision in precisions:
        matrix = torch.randn(size, size, device=device, dtype=DTYPES[precision])
        fastest[precision] = 2 * size**3 / timed(partial(torch.matmul, matrix, matrix), 1.0, device, min)
    source = torch.zeros(2**26, device=device)
    target = torch.empty_like(source)
    fastest["bytes"] = 2 * source.nbytes / timed(lambda: target.copy_(source), 1.0, device, min)
    return fastest


def instructions() -> str:
    """The best of `INSTRUCTIONS` that this CPU has, "plain" where it has none."""
    have = torch.cpu.get_capabilities()
    for name, shown in INSTRUCTIONS.items():
        if have.get(name):
            return shown
    return "plain"


def measure_here(name: str, bench: Bench) -> dict:
    """Measure one case in this process, as a command runs it; its facts and the process's peak memory."""
    multiply_in_float32()
    facts = asdict(all_cases(long=True)[name](bench))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    if bench.device == "cuda":
        peak = torch.cuda.max_memory_allocated()
    return facts | {"peak_gb": peak / 1e9, "cpu": instructions()}


def measure_alone(name: str, bench: Bench, threads: int, root: Path = ROOT) -> dict:
    """`measure_here` in a process of its own, of the checkout at `root`.

    Raises UsageError with the end of what it said when it fails.
    """
    command = [sys.executable, "-m", "tools.bench", "--case", name, "--device", bench.device]
    command += ["--budget", str(bench.budget), "--threads", str(threads)]
    command += ["--precision", bench.precision] if bench.precision else []
    print(f"{name} …", file=sys.stderr, flush=True)
    process = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    if process.returncode:
        raise UsageError(f"{name} failed:\n{process.stderr[-2000:]}")
    return json.loads(process.stdout.splitlines()[-1])


def measure_beside(name: str, bench: Bench, threads: int, before: Path) -> dict:
    """`measure_alone` here and in the checkout `before` in turn; the median here, with seconds an item there."""
    here, there = [], []
    for _ in range(TURNS):
        older = measure_alone(name, bench, threads, before)
        there.append(older["seconds"] / older["items"])
        here.append(measure_alone(name, bench, threads))
    here.sort(key=lambda case: case["seconds"])
    return here[TURNS // 2] | {"seconds_an_item_before": statistics.median(there)}


def row(name: str, case: dict, rate: dict[str, float], loading: float | None) -> list[str]:
    """A case as the table shows it; loading: seconds a clip out of the cache."""
    floor = max(case["flops"] / rate[case["precision"]], case["bytes"] / rate["bytes"])
    seconds_per_item = case["seconds"] / case["items"]
    notes = [case["note"]] if case["note"] else []
    if name.startswith("train") and loading:
        notes.append(f"waiting {loading / (loading + seconds_per_item):.1%}")
    before = case.get("seconds_an_item_before")
    return [
        name,
        f"{before / seconds_per_item:.2f}" if before else "",
        f"{floor / case['seconds']:.0%}" if floor else "",
        case["cpu"],
        case["precision"],
        str(case["items"]),
        f"{case['peak_gb']:.2f}",
        f"{1 / seconds_per_item:.3g}",
        f"{1000 * seconds_per_item:.3g}",
        ", ".join(notes),
    ]


def table(machine: str, rate: dict[str, float], cases: dict[str, dict]) -> str:
    """The cases as Markdown, below a line about the machine."""
    loading = None
    if "load" in cases:
        loading = cases["load"]["seconds"] / cases["load"]["items"]
    speeds = ", ".join(f"{unit} {value / 1e9:.0f} G/s" for unit, value in rate.items())
    rows = [row(name, case, rate, loading) for name, case in cases.items()]
    return f"{machine}: {speeds}\n\n{markdown_table(HEADER, rows)}"


def read_options(arguments: list[str]) -> argparse.Namespace:
    """The command line."""
    parser = tool_parser("bench", __doc__)
    parser.add_argument("--only", default="", help="beginnings of case names, separated by commas")
    parser.add_argument("--long", action="store_true", help="the papers' sizes too")
    parser.add_argument("--budget", type=float, default=3.0, help="seconds of measuring a case")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--threads", type=positive, default=torch.get_num_threads())
    parser.add_argument("--precision", choices=("auto", "fp32", "bf16"), help="of every case, whatever its recipe says")
    parser.add_argument("--before", type=Path, help="another checkout, measured in turn with this one")
    parser.add_argument("--docs", type=Path, help="a page whose table is replaced")
    parser.add_argument("--case", help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


def main(arguments: list[str]) -> None:
    """Entry point; see the module's docstring."""
    options = read_options(arguments)
    torch.set_num_threads(options.threads)
    bench = Bench(options.device, options.budget, options.precision)
    if options.case:
        print(json.dumps(measure_here(options.case, bench)))
        return
    check_out(options.out)
    if options.before and not (options.before / "tools" / "bench.py").is_file():
        raise UsageError(f"--before={options.before} has no tools/bench.py: give a checkout of this project")
    beginnings = tuple(options.only.split(","))
    names = [name for name in all_cases(options.long) if name.startswith(beginnings)]
    if not names:
        raise UsageError(f"--only={options.only} chooses no case: the cases are {', '.join(all_cases(options.long))}")
    cases = {}
    for name in names:
        if options.before:
            cases[name] = measure_beside(name, bench, options.threads, options.before)
        else:
            cases[name] = measure_alone(name, bench, options.threads)
    rate = rates(options.device, sorted({case["precision"] for case in cases.values()}))
    machine = torch.cuda.get_device_name() if options.device == "cuda" else f"cpu, {options.threads} threads"
    shown = table(machine, rate, cases)
    print(shown)
    if options.docs:
        page = options.docs.read_text(encoding="utf-8")
        write_atomically(options.docs, fill_tables(page, {"bench": shown}).encode())
    save_result({"device": machine, "torch": torch.__version__, "rates": rate, "cases": cases}, options.out)


if __name__ == "__main__":
    entry(main)
