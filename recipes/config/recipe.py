"""Recipes as files: reading a YAML with its command line, and refusing what is wrong before anything slow starts."""

import errno
import hashlib
import io
import logging
import os
import sys
import warnings
from collections.abc import Callable, Collection, Mapping
from contextlib import redirect_stderr
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import MappingProxyType

from hyperpyyaml import load_hyperpyyaml, resolve_references
from ruamel.yaml import YAML, YAMLError
from speechbrain.utils.run_opts import RunOptions
from speechbrain.utils.seed import seed_everything

from models.errors import UsageError
from recipes.config.rules import (
    RUN_OPTIONS,
    Tagged,
    check_all,
    existing,
    misfits,
    parse,
    run_problems,
    unknown,
    value_problems,
)
from recipes.system.files import unwritable
from recipes.system.interruption import Interrupted, raise_on_signals

REFUSED_WRITES = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM}


class Settings(dict):
    """A recipe's built values; it remembers which keys were read, so that a test can list the dead ones."""

    def __init__(self, values: Mapping):
        super().__init__(values)
        self.read: set[str] = set()

    def __getitem__(self, key: str):
        self.read.add(key)
        return super().__getitem__(key)

    def __missing__(self, key: str):
        raise UsageError(f"the recipe lacks the key {key!r}, which this run needs")


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
        """Seed every generator with the recipe's seed and build its objects afresh.

        Raises UsageError for a class that does not exist, or for arguments that it refuses.
        """
        seed_everything(self.values["seed"])
        try:
            return Settings(load_hyperpyyaml(io.StringIO(self.text)))
        except UsageError:
            raise
        except (TypeError, ValueError, ImportError, YAMLError) as error:
            detail = ": ".join(" ".join(str(part).split()) for part in error.args)
            raise UsageError(f"{self.path} cannot be built: {detail or type(error).__name__}") from error

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


def load_recipe(arguments: list[str], checks: Mapping[Callable, Collection[str]] = MappingProxyType({})) -> Recipe:
    """Read `RECIPE.yaml --key=value …`; keys that the recipe lacks may be SpeechBrain's run options, spelt in full.

    A recipe of the form `extends: other.yaml` plus plain keys is that other recipe with those keys changed. checks:
    what else the values must pass, each check with the keys that it reads; one is made where these are in range.
    Raises UsageError for a missing file or a broken one, and else one that lists every problem: unknown keys (with the
    nearest known one), keys that nothing uses, placeholders left unset, and values and run options out of range.
    """
    # a flag of the command, no key of the recipe: whether data had to be fetched changes nothing in the run
    download = "--download" in arguments
    arguments = [argument for argument in arguments if argument != "--download"]
    if not arguments or arguments[0].startswith("-"):
        raise UsageError("the first argument must be a recipe, such as hparams/focalnet.yaml")
    path = existing(Path(arguments[0]))
    written, base, changes = parse(path.read_text(encoding="utf-8"), path), path, {}
    if "extends" in written:
        base = existing(path.parent / str(written.pop("extends")))
        changes, written = written, parse(base.read_text(encoding="utf-8"), base)
    problems = [
        f"{path}: {key} is !{value.tag}, but `extends` changes plain values only; write a recipe of its own"
        for key, value in changes.items()
        if isinstance(value, Tagged)
    ]
    given, run_opts = _command_line(path, arguments[1:], written, problems)
    changes |= given
    problems += [unknown(key, list(written), base) for key in changes if key not in written]
    overrides = {key: value for key, value in changes.items() if key in written}
    problems += [f"{path}: {problem}" for problem in misfits(base, written, overrides)]
    values, text = written | overrides, ""
    if not problems:
        try:
            with base.open(encoding="utf-8") as stream:
                text = resolve_references(stream, overrides).read()
            values = parse(text, path)
        except (ValueError, FileNotFoundError) as error:
            problems.append(f"{path}: {str(error).rstrip('.')}")
    wrong = value_problems(values) + run_problems(run_opts, values)
    problems += [f"{path}: {'; '.join(wrong)}"] if wrong else []
    plain = Settings({key: None if isinstance(value, Tagged) else value for key, value in values.items()})
    faulty = {key for key in plain if value_problems({key: plain[key]})}
    possible = [partial(check, plain) for check, keys in checks.items() if not faulty.intersection(keys)]
    check_all(*possible, told=problems)
    plain["download"] = download
    return Recipe(path, text, plain, run_opts)


def _complete(node: object, settings: Mapping) -> None:
    """Null every `weights:` below a node, since a bundle brings its own, and fill other nulls from the settings."""
    for key, value in node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ():
        if key == "weights":
            node[key] = None
        elif value is None:
            node[key] = settings.get(key)
        else:
            _complete(value, settings)


def _command_line(path: Path, options: list[str], keys: Mapping, problems: list[str]) -> tuple[dict, RunOptions]:
    """The overrides of a recipe's keys, and SpeechBrain's run options; what is wrong with these joins the problems.

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
            overrides[key] = parse(f"{key}: {' '.join([value, *rest])}", "the command line").get(key)
    told = io.StringIO()
    try:
        with redirect_stderr(told):
            return overrides, RunOptions.from_command_line_args(others)[1]
    except SystemExit:
        problems.append(told.getvalue().rpartition("error: ")[2].strip())
        return overrides, RunOptions()


def entry(main: Callable[[list[str]], object]) -> None:
    """Run a script: a user's mistake is one sentence on stderr and exit code 2, anything else is a real error.

    So is a write that the system refuses. SIGTERM and Ctrl-C end it with a sentence and 143 or 130.
    """
    _silence_libraries()
    raise_on_signals()
    try:
        main(sys.argv[1:])
    except UsageError as error:
        _leave(2, f"error: {error}")
    except OSError as error:
        if error.errno not in REFUSED_WRITES:
            raise
        _leave(2, f"error: {unwritable(error.filename or 'a file', error)}")
    except Interrupted as signal:
        _leave(signal.code, f"stopped by {signal}: give the same command again to go on")


def _silence_libraries() -> None:
    """Drop the warnings that tell a user nothing: no recipe asks for what they say is missing."""
    warnings.filterwarnings("ignore", message=".*torchaudio.*")
    train_logger = logging.getLogger("speechbrain.utils.train_logger")
    train_logger.addFilter(lambda record: "torchvision" not in record.getMessage())


def _leave(code: int, sentence: str) -> None:
    if os.environ.get("RANK", "0") == "0":  # one of several processes speaks for all
        print(sentence, file=sys.stderr)
    sys.exit(code)
