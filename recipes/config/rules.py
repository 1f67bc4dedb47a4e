"""What a recipe may say: its keys, their types and ranges, and what fits together."""

import difflib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import torch
from ruamel.yaml import YAML, YAMLError
from ruamel.yaml.constructor import SafeConstructor
from ruamel.yaml.nodes import MappingNode, Node
from speechbrain.utils.distributed import infer_device
from speechbrain.utils.run_opts import HELP_TEXTS, RunOptions

from models.errors import UsageError

# optimizer_step_limit is left out: SpeechBrain reads it as text and compares it with numbers
RUN_OPTIONS = {*HELP_TEXTS, "jit_module_keys", "compile_module_keys"} - {"optimizer_step_limit"}
OBJECTS = {"model", "interpreter", "optimizer", "schedule", "augmentation"}
FOLD_LISTS = ("train_folds", "valid_folds", "test_folds")
INTERVALS = ("ckpt_interval_minutes", "ckpt_interval_steps")
BUILT = ("new:", "name:", "include:", "apply:", "applyref:", "module:")


@dataclass(frozen=True)
class Tagged:
    """A tagged value of a YAML file, not built: `!new:a.B {c: 1}` has the tag "new:a.B" and the value {"c": 1}."""

    tag: str
    value: object


class _PlainConstructor(SafeConstructor):
    """Reads a recipe's scalars, lists and mappings, and leaves what is tagged as it is written."""


def _tagged(loader: SafeConstructor, suffix: str, node: Node) -> Tagged:
    value = loader.construct_mapping(node, deep=True) if isinstance(node, MappingNode) else node.value
    return Tagged(suffix, value)


_PlainConstructor.add_multi_constructor("!", _tagged)


def existing(path: Path) -> Path:
    if path.is_file():
        return path
    near = difflib.get_close_matches(path.name, [one.name for one in path.parent.glob("*.yaml")], 1)
    raise UsageError(f"no recipe {path}" + (f"; did you mean {path.parent / near[0]}?" if near else ""))


def parse(text: str, origin: object) -> dict:
    """Plain values by the rules of YAML 1.2, which are HyperPyYAML's: 1e-3 is a number."""
    reader = YAML(typ="safe", pure=True)
    reader.Constructor = _PlainConstructor
    try:
        found = reader.load(text)
    except YAMLError as error:
        raise UsageError(f"{origin} is not valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(found, dict):
        raise UsageError(f"{origin} must hold keys with values, not {type(found).__name__}")
    return found


def check_all(*checks: Callable[[], object], told: Iterable[str] = ()) -> None:
    """Run every check and raise one UsageError that holds what was told before and the sentences of all that raised."""
    problems = list(told)
    for check in checks:
        try:
            check()
        except UsageError as error:
            problems.append(str(error))
    if problems:
        raise UsageError("; ".join(dict.fromkeys(problems)))


def unknown(key: str, keys: list[str], path: Path) -> str:
    """The sentence for a key that the file at `path` lacks, with the nearest of its `keys`."""
    near = difflib.get_close_matches(key, [*keys, *sorted(RUN_OPTIONS)], 1, cutoff=0.5)
    hint = f"did you mean --{near[0]}?" if near else f"known keys: {', '.join(keys)}"
    return f"{path} has no key {key!r}; {hint}"


def _number(low: float, high: float, whole: bool = False) -> Callable[[object], bool]:
    kinds = int if whole else (int, float)
    return lambda value: isinstance(value, kinds) and not isinstance(value, bool) and low <= value <= high


def _each(check: Callable[[object], bool]) -> Callable[[object], bool]:
    return lambda value: isinstance(value, list) and len(value) > 0 and all(map(check, value))


def _name(value: object) -> bool:
    return isinstance(value, str) and value != ""


_count, _fraction = _number(1, 1e9, whole=True), _number(0, 1)
_path = ("a path", lambda value: _name(value))
_path_or_null = ("null or a path", lambda value: value is None or _name(value))
_level = ("null or a number of dB from -100 to 100", lambda value: value is None or _number(-100, 100)(value))
_precision = ("auto, fp32, bf16 or fp16", lambda value: value in ("auto", "fp32", "bf16", "fp16"))
_size = ("a whole number of 1 or more", _count)
# key: (what is allowed, check). Keys not listed are checked by what they build.
RULES: dict[str, tuple[str, Callable[[object], bool]]] = {
    "seed": ("a whole number of 0 or more", _number(0, 2**31, whole=True)),
    "experiment": (
        "a name without '/'",
        lambda v: isinstance(v, str) and v != "" and "/" not in v and v[0] != ".",
    ),
    **dict.fromkeys(("output_folder", "data_folder", "cache_folder", "classifier", "reference"), _path),
    **dict.fromkeys(("weights", "audio", "noise_folder", "start_from"), _path_or_null),
    "contamination": ("a kind of contamination or a list of them", lambda v: _name(v) or _each(_name)(v)),
    "train_noise": ("a kind of contamination", _name),
    **dict.fromkeys(("snr_db", "train_snr_db"), _level),
    "tensorboard": ("true or false", lambda v: isinstance(v, bool)),
    **dict.fromkeys(FOLD_LISTS, ("a list of fold numbers", _each(_number(0, 1e6, whole=True)))),
    "folds": ("null (the three lists) or 'all' (cross-validation)", lambda v: v in (None, "all")),
    "subset": ("null or 'esc10'", lambda v: v in (None, "esc10")),
    "clip_seconds": ("a number of seconds in (0, 3600]", _number(1e-3, 3600)),
    "num_classes": ("a whole number of 2 or more", _number(2, 1e6, whole=True)),
    **dict.fromkeys(("epochs", "batch_size", "eval_batch_size", "grad_accumulation_factor", "step_size"), _size),
    **{key: ("a number above 0", _number(1e-30, 1e3)) for key in ("peak_lr", "base_lr", "max_lr", "lr")},
    "margin": ("a number in [0, 1]", _fraction),
    "quantile": (
        "a number in [0, 1] or a list of them, or null (a soft mask)",
        lambda v: v is None or _fraction(v) or _each(_fraction)(v),
    ),
    "alpha": ("a number in [0, 1]", _fraction),
    **dict.fromkeys(("precision", "eval_precision"), _precision),
    "trust": (
        "a list of importable modules, such as [my_module]",
        lambda v: isinstance(v, list) and all(isinstance(one, str) and one for one in v),
    ),
    "report_clips": ("a whole number from 0 to 500", _number(0, 500, whole=True)),
    "max_grad_norm": ("a number; negative: no clipping", _number(-1e9, 1e9)),
    "ckpt_interval_minutes": ("a number of 0 or more", _number(0, 1e9)),
    "probe_penalty": ("null or a number above 0", lambda v: v is None or _number(1e-30, 1e9)(v)),
    **dict.fromkeys(("guidance", "sparsity"), ("a number of 0 or more", _number(0, 1e9))),
    "width": ("a number above 0", _number(1e-6, 1e9)),
    "channels": ("null or a whole number of 1 or more", lambda v: v is None or _count(v)),
} | dict.fromkeys(("image_size", "filters", "kernel", "layers", "chunk", "intra_layers", "inter_layers"), _size)


def value_problems(values: Mapping) -> list[str]:
    """Every plain value outside what is allowed, and folds used twice."""
    problems = [
        f"{key}={values[key]!r} must be {allowed}"
        for key, (allowed, check) in RULES.items()
        if key in values and not isinstance(values[key], Tagged) and not check(values[key])
    ]
    lists = [key for key in FOLD_LISTS if key in values]
    if not any(key in problem for key in lists for problem in problems) and values.get("folds") is None:
        for first, second in combinations(lists, 2):
            shared = sorted(set(values[first]) & set(values[second]))
            if shared:
                problems.append(f"{first} and {second} share fold {', '.join(map(str, shared))}; they must be disjoint")
    return problems


def run_problems(run_opts: RunOptions, values: Mapping) -> list[str]:
    """A device that is not there, and options that SpeechBrain refuses together."""
    device, problems = run_opts.device or infer_device(), []
    chosen = {name: values.get(name) for name in ("precision", "eval_precision", *INTERVALS)}
    chosen |= {name: run_opts[name] for name in run_opts.overridden_args}
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        detail = str(error).splitlines()[0].rstrip(".")
        problems.append(f"device={device!r} cannot be used ({detail}); pass cpu, cuda or cuda:1")
    if device == "cpu":
        halves = [name for name in ("precision", "eval_precision") if chosen[name] == "fp16"]
        problems += [f"{name}=fp16 needs a GPU; on a CPU pass fp32 or bf16" for name in halves]
    if all(isinstance(chosen[name], int | float) and chosen[name] > 0 for name in INTERVALS):
        problems.append(f"{' and '.join(INTERVALS)} exclude each other; pass 0 for one of them")
    return problems


def misfits(base: Path, written: Mapping, overrides: Mapping) -> Iterator[str]:
    """What a recipe leaves unset, what nothing in it uses, and what is put where a block or an object is.

    written: the values of the file `base`, tags kept. overrides: the new values of some of them.
    """
    used = {*RULES, *RUN_OPTIONS, *OBJECTS, *re.findall(r"<\s*(\w+)", base.read_text(encoding="utf-8"))}
    for key, value in written.items():
        tag, inside = (value.tag, value.value) if isinstance(value, Tagged) else ("", value)
        given = overrides.get(key, {})
        if tag == "PLACEHOLDER" and key not in overrides:
            yield f"{key!r} is a !PLACEHOLDER and must be replaced; set it on the command line or in the YAML"
        if key not in used:
            near = difflib.get_close_matches(key, used - {*written}, 1)
            yield f"nothing uses the key {key!r}" + (f"; did you mean {near[0]}?" if near else "")
        if (isinstance(value, dict) or tag.startswith(BUILT)) and not isinstance(given, dict):
            yield f"{key}={given!r} stands where a block of keys is; change them in the YAML"
        elif tag.startswith("include:"):
            names = {*given} | ({*inside} if isinstance(inside, dict) else set())
            block = base.parent / tag.removeprefix("include:")
            if not block.is_file():
                yield f"{key} includes {block}, which is not there"
                continue
            known = parse(block.read_text(encoding="utf-8"), block)
            yield from (unknown(name, list(known), block) for name in sorted(names - {*known}))
