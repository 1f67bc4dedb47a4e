"""Recipes as files: reading a YAML with its command line, and refusing what is wrong before anything slow starts."""

import difflib
import hashlib
import io
import sys
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from types import MappingProxyType

from hyperpyyaml import load_hyperpyyaml, resolve_references
from ruamel.yaml import YAML, YAMLError
from ruamel.yaml.constructor import SafeConstructor
from speechbrain.utils.run_opts import RunOptions
from speechbrain.utils.seed import seed_everything

from models.errors import UsageError

RUN_OPTIONS = {field.name for field in fields(RunOptions)}


class _PlainConstructor(SafeConstructor):
    """Reads a recipe's scalars and lists; whatever a tag would build becomes None."""


_PlainConstructor.add_multi_constructor("!", lambda loader, suffix, node: None)


class Settings(dict):
    """A recipe's built values; it remembers which keys were read, so that a test can list the dead ones."""

    def __init__(self, values: Mapping):
        super().__init__(values)
        self.read: set[str] = set()

    def __getitem__(self, key: str):
        self.read.add(key)
        return super().__getitem__(key)


@dataclass(frozen=True)
class Recipe:
    """One YAML file with its overrides applied, not yet built.

    path: the YAML. text: the YAML resolved, includes and references gone. values: its plain top-level values.
    run_opts: SpeechBrain's run options (device, precision, debug, …) of the command line.
    """

    path: Path
    text: str
    values: dict
    run_opts: RunOptions

    @property
    def sha256(self) -> str:
        """SHA-256 of the resolved configuration."""
        return hashlib.sha256(self.text.encode()).hexdigest()

    @property
    def trust(self) -> tuple[str, ...]:
        """Modules of the user's own that bundles may build."""
        return tuple(self.values.get("trust", ()))

    def build(self) -> Settings:
        """Seed every generator with the recipe's seed and build its objects afresh."""
        seed_everything(self.values["seed"])
        return Settings(load_hyperpyyaml(io.StringIO(self.text)))

    def block(self, key: str, settings: Mapping = MappingProxyType({})) -> str:
        """The resolved YAML below one top-level key, as a document for a bundle, with no path to weights left.

        settings: values for keys that are null there (`ClassifierInfo.settings`).
        """
        reader = YAML()
        node = reader.load(self.text)[key]
        _complete(node, settings)
        stream = io.StringIO()
        reader.dump(node, stream)
        return stream.getvalue()


def load_recipe(arguments: list[str]) -> Recipe:
    """Read `RECIPE.yaml --key=value …`; keys that the recipe lacks may be SpeechBrain's run options, spelt in full.

    A recipe of the form `extends: other.yaml` plus plain keys is that other recipe with those keys changed.
    Raises UsageError for a missing file, a broken one, an unknown key (with the nearest known one), a placeholder
    left unset, or a value that `check_values` refuses.
    """
    if not arguments or arguments[0].startswith("-"):
        raise UsageError("the first argument must be a recipe, such as hparams/focalnet.yaml")
    path = _existing(Path(arguments[0]))
    written, base, changes = _parse(path.read_text(encoding="utf-8"), path), path, {}
    if "extends" in written:
        base = _existing(path.parent / str(written.pop("extends")))
        changes, written = written, _parse(base.read_text(encoding="utf-8"), base)
    given, run_opts = _command_line(path, arguments[1:], written)
    overrides = changes | given
    unknown = [key for key in overrides if key not in written]
    if unknown:
        raise UsageError("; ".join(_unknown(key, list(written), base) for key in unknown))
    try:
        with base.open(encoding="utf-8") as stream:
            text = resolve_references(stream, overrides).read()
    except (ValueError, FileNotFoundError) as error:
        raise UsageError(f"{path}: {str(error).rstrip('.')}; set it on the command line or in the YAML") from error
    values = _parse(text, path)
    check_values(values, path)
    return Recipe(path, text, values, run_opts)


def _complete(node: object, settings: Mapping) -> None:
    """Null every `weights:` below a node, since a bundle brings its own, and fill other nulls from the settings."""
    for key, value in node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ():
        if key == "weights":
            node[key] = None
        elif value is None:
            node[key] = settings.get(key)
        else:
            _complete(value, settings)


def _existing(path: Path) -> Path:
    if path.is_file():
        return path
    near = difflib.get_close_matches(path.name, [one.name for one in path.parent.glob("*.yaml")], 1)
    raise UsageError(f"no recipe {path}" + (f"; did you mean {path.parent / near[0]}?" if near else ""))


def _command_line(path: Path, options: list[str], keys: Mapping) -> tuple[dict, RunOptions]:
    """The overrides of a recipe's keys, and SpeechBrain's run options.

    A name that both know, such as precision, is the recipe's, so that the kept configuration says what ran. An
    abbreviation is nobody's: SpeechBrain would accept it and do nothing.
    """
    given: list[list[str]] = []
    for option in options:
        if option.startswith("--"):
            given.append([option])
        elif given:
            given[-1].append(option)
        else:
            raise UsageError(f"{option!r} is not of the form --key=value")
    overrides, others = {}, [str(path)]
    for first, *rest in given:
        key, _, value = first[2:].partition("=")
        if key in RUN_OPTIONS and key not in keys:
            others += [first, *rest]
        else:
            overrides[key] = _parse(f"{key}: {' '.join([value, *rest])}", "the command line").get(key)
    return overrides, RunOptions.from_command_line_args(others)[1]


def _parse(text: str, origin: object) -> dict:
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


def _unknown(key: str, keys: list[str], path: Path) -> str:
    near = difflib.get_close_matches(key, [*keys, *sorted(RUN_OPTIONS)], 1, cutoff=0.5)
    hint = f"did you mean --{near[0]}?" if near else f"known keys: {', '.join(keys)}"
    return f"{path} has no key {key!r}; {hint}"


def _number(low: float, high: float, whole: bool = False) -> Callable[[object], bool]:
    kinds = int if whole else (int, float)
    return lambda value: isinstance(value, kinds) and not isinstance(value, bool) and low <= value <= high


def _each(check: Callable[[object], bool]) -> Callable[[object], bool]:
    return lambda value: isinstance(value, list) and len(value) > 0 and all(map(check, value))


_count, _fraction = _number(1, 1e9, whole=True), _number(0, 1)
_path = ("a path", lambda value: isinstance(value, str) and value != "")
# key: (what is allowed, check). Keys not listed are checked by what they build.
RULES: dict[str, tuple[str, Callable[[object], bool]]] = {
    "seed": ("a whole number of 0 or more", _number(0, 2**31, whole=True)),
    "experiment": (
        "a name without '/'",
        lambda v: isinstance(v, str) and v != "" and "/" not in v and v[0] != ".",
    ),
    "output_folder": _path,
    "data_folder": _path,
    "cache_folder": _path,
    "classifier": _path,
    "train_folds": ("a list of fold numbers", _each(_number(0, 1e6, whole=True))),
    "valid_folds": ("a list of fold numbers", _each(_number(0, 1e6, whole=True))),
    "test_folds": ("a list of fold numbers", _each(_number(0, 1e6, whole=True))),
    "folds": ("null (the three lists) or 'all' (cross-validation)", lambda v: v in (None, "all")),
    "subset": ("null or 'esc10'", lambda v: v in (None, "esc10")),
    "clip_seconds": ("a number of seconds in (0, 3600]", _number(1e-3, 3600)),
    "num_classes": ("a whole number of 2 or more", _number(2, 1e6, whole=True)),
    "epochs": ("a whole number of 1 or more", _count),
    "batch_size": ("a whole number of 1 or more", _count),
    "eval_batch_size": ("a whole number of 1 or more", _count),
    "grad_accumulation_factor": ("a whole number of 1 or more", _count),
    "peak_lr": ("a number above 0", _number(1e-30, 1e3)),
    "margin": ("a number in [0, 1]", _fraction),
    "quantile": (
        "a number in [0, 1] or a list of them",
        lambda v: _fraction(v) or _each(_fraction)(v),
    ),
    "alpha": ("a number in [0, 1]", _fraction),
    "precision": ("fp32, bf16 or fp16", lambda v: v in ("fp32", "bf16", "fp16")),
    "eval_precision": ("fp32, bf16 or fp16", lambda v: v in ("fp32", "bf16", "fp16")),
    "trust": (
        "a list of importable modules, such as [my_module]",
        lambda v: isinstance(v, list) and all(isinstance(one, str) and one for one in v),
    ),
    "report_clips": ("a whole number of 0 or more", _number(0, 1e6, whole=True)),
}


def check_values(values: Mapping, path: Path) -> None:
    """Raise one UsageError that lists every plain value outside what is allowed, and folds used twice."""
    problems = [
        f"{key}={values[key]!r} must be {allowed}"
        for key, (allowed, check) in RULES.items()
        if key in values and not check(values[key])
    ]
    lists = [key for key in ("train_folds", "valid_folds", "test_folds") if key in values]
    if not problems and values.get("folds") is None:
        for first, second in ((a, b) for i, a in enumerate(lists) for b in lists[i + 1 :]):
            shared = sorted(set(values[first]) & set(values[second]))
            if shared:
                problems.append(f"{first} and {second} share fold {', '.join(map(str, shared))}; they must be disjoint")
    if problems:
        raise UsageError(f"{path}: " + "; ".join(problems))


def entry(main: Callable[[list[str]], object]) -> None:
    """Run a script: a user's mistake is one sentence on stderr and exit code 2, anything else is a real error."""
    warnings.filterwarnings("ignore", message=".*torchaudio.*")
    try:
        main(sys.argv[1:])
    except UsageError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
