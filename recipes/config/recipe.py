"""Recipes as files: reading a YAML with its command line, and refusing what is wrong before anything slow starts."""

import hashlib
import io
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from ruamel.yaml import YAMLError
from ruamel.yaml.comments import CommentedMap

from models.errors import UsageError
from models.settings import with_groups
from recipes.config.command_line import SWITCHES, CommandLine, read_line
from recipes.config.compose import Draft, compose, environment_value, find_recipe, full_name, resolve
from recipes.config.factories import check_factories
from recipes.config.fit import misfits
from recipes.config.options import device_problems
from recipes.config.rules import OBJECTS, PATHS, PATHS_OR_NULL, RULES, block_settings, value_problems
from recipes.config.tagged import Tagged
from recipes.config.yaml_text import plain, read_tree, tag_of, write_tree
from recipes.system.problems import check_all

if TYPE_CHECKING:
    from speechbrain.utils.run_opts import RunOptions


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

    path: the YAML. text: the YAML resolved, includes and references gone. values: its plain values: those of the
    recipe itself, and those inside its blocks by their last name. options: SpeechBrain's run options (device,
    precision, debug, …) of the command line. line_keys: full names of the keys that it changes.
    """

    path: Path
    text: str
    values: dict
    options: Mapping = field(default_factory=dict)
    line_keys: tuple[str, ...] = ()

    @property
    def sha256(self) -> str:
        """SHA-256 of the resolved configuration."""
        return hashlib.sha256(self.text.encode()).hexdigest()

    @property
    def trust(self) -> tuple[str, ...]:
        """Modules of the user's own that bundles may build."""
        return tuple(self.values.get("trust", ()))

    @cached_property
    def run_opts(self) -> "RunOptions":
        """The run options as SpeechBrain's Brain takes them."""
        from speechbrain.utils.run_opts import RunOptions

        return RunOptions(**self.options, overridden_args=set(self.options))

    def build(self) -> Settings:
        """Seed every generator with the recipe's seed and build its objects afresh: no plain values are among them.

        Raises UsageError for a class that does not exist, or for arguments that it refuses.
        """
        from hyperpyyaml import load_hyperpyyaml
        from speechbrain.utils.seed import seed_everything

        seed_everything(self.values["seed"])
        try:
            built = load_hyperpyyaml(io.StringIO(self.text))
        except UsageError:
            raise
        except (TypeError, ValueError, ImportError, YAMLError) as error:
            detail = ": ".join(" ".join(str(part).split()) for part in error.args)
            raise UsageError(f"{self.path} cannot be built: {detail or type(error).__name__}") from error
        _group_arguments(built)
        check_factories(built, self.path)
        written = plain(read_tree(self.text, self.path))
        values = {}
        for key, value in built.items():
            if _builds(key, written.get(key)):
                values[key] = value
        return Settings(values)

    def written(self, key: str) -> object:
        """The plain value of a dotted key, such as `interpreter.steps`, of the resolved recipe."""
        node = read_tree(self.text, self.path)
        for name in key.split("."):
            node = node[name]
        return plain(node)

    def block(self, key: str, settings: Mapping = MappingProxyType({})) -> str:
        """The resolved YAML below one top-level key, as a document for a bundle, with no path to weights left.

        settings: values for keys that are null there (`ClassifierInfo.settings`).
        """
        node = read_tree(self.text, self.path)[key]
        _complete(node, settings)
        return write_tree(node)


def each_recipe(arguments: list[str]) -> list[list[str]]:
    """The command line of every recipe that one names: `a.yaml b.yaml --key=value` is two with the same key."""
    count = 0
    while count < len(arguments) and not arguments[count].startswith("-"):
        count += 1
    paths, options = arguments[:count], arguments[count:]
    return [[path, *options] for path in paths] or [options]


def load_recipe(
    arguments: list[str],
    checks: Mapping[Callable, Collection[str]] = MappingProxyType({}),
    command: str | None = None,
) -> Recipe:
    """Read `RECIPE.yaml --key=value …`; keys that the recipe lacks may be SpeechBrain's run options, spelt in full.

    checks: what else the values must pass, each check with the keys that it reads; a check runs where these are in
    range. command: "train.py" or "interpret.py", to refuse a recipe that is the other one's.
    Raises UsageError for a missing file or a broken one, and else one that lists every problem: unknown keys (with the
    nearest known one), keys that nothing uses, placeholders left unset, and values and run options out of range.
    """
    if not arguments or arguments[0].startswith("-"):
        raise UsageError("the first argument must be a recipe, such as hparams/focalnet.yaml")
    path = find_recipe(Path(arguments[0]))
    draft = compose(path)
    _check_command(draft, command)
    problems: list[str] = []
    line = read_line(arguments[1:], draft, problems)
    expanded = draft.expanded()
    line_keys = tuple(full_name(key, expanded) for key in line.changes)
    tree = _changed(draft, line, problems)
    values = dict(plain(tree)) if tree is not None else _written_values(draft)
    out_of_range = _out_of_range(values, line)
    if out_of_range:
        problems.append(f"{path}: {'; '.join(out_of_range)}")
    known = _plain_values(values, line)
    unset = set(draft.tree).difference(values)
    check_all(*_possible(checks, known, unset), earlier=problems)
    return Recipe(path, write_tree(tree), known, line.options, line_keys)


def _plain_values(values: Mapping, line: CommandLine) -> Settings:
    """What `Recipe.values` holds: settings of blocks by their last name, the recipe's own values, and switches."""
    known = Settings(block_settings(values))
    for key, value in values.items():
        if not _builds(key, value):
            known[key] = value
    for name in SWITCHES:
        known[name] = name in line.switches
    return known


def _possible(checks: Mapping[Callable, Collection[str]], values: Settings, unset: set[str]) -> list[Callable]:
    """The checks whose keys all hold values in range, ready to be called.

    unset: keys without a value, as in a recipe that could not be resolved.
    """
    possible = []
    for check, keys in checks.items():
        if unset.intersection(keys):
            continue
        read = Settings({})
        for key in keys:
            if key in values:
                read[key] = values[key]
        if not value_problems(read):
            possible.append(partial(check, values))
    return possible


def _builds(key: str, value: object) -> bool:
    """Whether a top-level key of a recipe holds objects to build, rather than a plain value."""
    return key in OBJECTS or isinstance(value, Tagged)


def _check_command(draft: Draft, command: str | None) -> None:
    """Raises UsageError where the other script runs a recipe."""
    makes = {"train.py": "model", "interpret.py": "interpreter"}
    for script, key in makes.items():
        if command in makes and command != script and key in draft.tree and makes[command] not in draft.tree:
            does = "trains a classifier" if script == "train.py" else "explains a classifier"
            raise UsageError(f"{draft.path} {does}: run `python {script} {draft.path}`")


def _changed(draft: Draft, line: CommandLine, problems: list[str]) -> CommentedMap | None:
    """The recipe's resolved tree with the command line's changes; None where problems keep it from being resolved."""
    before = draft.expanded()
    draft.change(line.changes, before)
    problems += [f"{draft.path}: {problem}" for problem in misfits(draft, before)]
    if problems:
        return None
    try:
        tree = resolve(draft)
    except UsageError as error:
        problems.append(str(error))
        return None
    _spell_out_home(tree)
    return tree


def _spell_out_home(node: object) -> None:
    """Replace the `~` that begins a path, wherever in a recipe it stands."""
    if isinstance(node, dict):
        for key, value in node.items():
            if key in (*PATHS, *PATHS_OR_NULL) and isinstance(value, str) and value.startswith("~/"):
                node[key] = str(Path(value).expanduser())
            else:
                _spell_out_home(value)


def _written_values(draft: Draft) -> dict:
    """The plain values of a recipe that could not be resolved, so that its other problems are told too."""
    values = {}
    for key, node in draft.tree.items():
        value = environment_value(node) if tag_of(node).startswith("env:") else plain(node)
        if key not in RULES or not isinstance(value, Tagged):
            values[key] = value
    return values


def _out_of_range(values: Mapping, line: CommandLine) -> list[str]:
    """Sentences about values and run options that are out of range, in the recipe and inside its blocks."""
    inside = {}
    for key, value in block_settings(values).items():
        if key not in values and value is not None:  # of null inside a block, the object that is built judges
            inside[key] = value
    return value_problems(values) + value_problems(inside) + device_problems(line.options, values)


def _group_arguments(built: dict) -> None:
    """Let an interpreter written before its class grouped its arguments take them as it does today."""
    holder = built.get("interpreter")
    block = holder if isinstance(holder, dict) else built
    if isinstance(block.get("interpreter"), partial):
        block["interpreter"] = with_groups(block["interpreter"])


def _complete(node: object, settings: Mapping) -> None:
    """Null every `weights:` below a node, since a bundle brings its own, and fill other nulls from the settings."""
    if isinstance(node, dict):
        parts = node.items()
    elif isinstance(node, list):
        parts = enumerate(node)
    else:
        return
    for key, value in parts:
        if key == "weights":
            node[key] = None
        elif value is None:
            node[key] = settings.get(key)
        else:
            _complete(value, settings)
