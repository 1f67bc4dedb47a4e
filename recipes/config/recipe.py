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
from ruamel.yaml.comments import CommentedMap, CommentedSeq

from models.errors import UsageError
from recipes.config.compose import (
    Draft,
    compose,
    find_recipe,
    full_name,
    full_name_in_block,
    referenced,
    resolve,
    setting_names,
    unknown_part,
)
from recipes.config.moved import advice
from recipes.config.options import RUN_OPTIONS, Option, device_problems, nearest, read_run_option
from recipes.config.rules import (
    OBJECTS,
    PATHS,
    PATHS_OR_NULL,
    READ_KEYS,
    RULES,
    TEXT_KEYS,
    block_settings,
    check_all,
    value_problems,
)
from recipes.config.yaml_text import BUILT, NULLS, Tagged, plain, read_tree, read_value, tag_of, write_tree
from recipes.system.entry import entry  # noqa: F401  (commands found it here before)

if TYPE_CHECKING:
    from speechbrain.utils.run_opts import RunOptions

SWITCHES = ("download",)
"""Flags of the commands that change nothing in what a run computes, and are no keys of a recipe."""


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
    precision, debug, …) of the command line.
    """

    path: Path
    text: str
    values: dict
    options: Mapping = field(default_factory=dict)

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
        written = plain(read_tree(self.text, self.path))
        return Settings({key: value for key, value in built.items() if _builds(key, written.get(key))})

    def block(self, key: str, settings: Mapping = MappingProxyType({})) -> str:
        """The resolved YAML below one top-level key, as a document for a bundle, with no path to weights left.

        settings: values for keys that are null there (`ClassifierInfo.settings`).
        """
        node = read_tree(self.text, self.path)[key]
        _complete(node, settings)
        return write_tree(node)


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
    line = _read_line(arguments[1:], draft, problems)
    tree = _changed(draft, line, problems)
    values = dict(plain(tree)) if tree is not None else _written_values(draft)
    problems += [f"{path}: {problem}" for problem in _wrong_values(values, line)]
    known = block_settings(values)
    known |= {key: value for key, value in values.items() if not _builds(key, value)}
    faulty = {key for key in known if value_problems({key: known[key]})}
    possible = [partial(check, Settings(known)) for check, keys in checks.items() if not faulty.intersection(keys)]
    check_all(*possible, told=problems)
    known |= {name: name in line.switches for name in SWITCHES}
    return Recipe(path, write_tree(tree), Settings(known), line.options)


def _builds(key: str, value: object) -> bool:
    """Whether a top-level key of a recipe holds objects to build, rather than a plain value."""
    return key in OBJECTS or isinstance(value, Tagged)


@dataclass
class _Line:
    """A command line: changes of a recipe's keys, SpeechBrain's run options, and the commands' own switches."""

    changes: CommentedMap = field(default_factory=CommentedMap)
    options: dict[str, object] = field(default_factory=dict)
    switches: set[str] = field(default_factory=set)


def split_options(arguments: list[str]) -> list[Option]:
    """`--key=value`, `--key value` and `--key=first second` as options. Raises UsageError for a word before any key."""
    options: list[Option] = []
    for argument in arguments:
        if argument.startswith("--"):
            key, equals, value = argument[2:].partition("=")
            options.append(Option(key, value if equals else None))
        elif options:
            last = options.pop()
            options.append(Option(last.key, last.value, (*last.more, argument)))
        else:
            raise UsageError(f"{argument!r} is not of the form --key=value")
    return options


def _read_line(arguments: list[str], draft: Draft, problems: list[str]) -> _Line:
    """What a command line asks for; what is wrong with it joins the problems.

    A name that the recipe and SpeechBrain share, such as precision, is the recipe's, so that the kept configuration
    says what ran. An abbreviation is nobody's.
    """
    line = _Line()
    expanded = draft.expanded()
    for option in split_options(arguments):
        if option.key in SWITCHES and option.key not in draft.tree and not option.words:
            line.switches.add(option.key)
            continue
        try:
            if option.key in RUN_OPTIONS and option.key not in draft.tree:
                line.options[option.key] = read_run_option(option)
            else:
                line.changes[option.key] = _read_key(option)
        except UsageError as error:
            problems.append(str(error))
    for key in list(line.changes):
        sentence = _unknown(key, expanded, draft.path)
        if sentence:
            problems.append(sentence)
            del line.changes[key]
    return line


def _read_key(option: Option) -> object:
    """The value that a command line gives to a key: text as it stands for paths and names, else as YAML reads it."""
    key, text = option.key.rpartition(".")[2], " ".join(option.words)
    if key in TEXT_KEYS:
        if key == "audio" and len(option.words) > 1:
            return CommentedSeq(option.words)
        return None if text in NULLS else text
    try:
        return read_value(text)
    except UsageError as error:
        raise UsageError(
            f"--{option.key}={text} cannot be read: {error}; put text with such characters into quotation marks, "
            f"--{option.key}='\"…\"'"
        ) from error


def _unknown(key: str, expanded: CommentedMap, path: Path) -> str | None:
    """The sentence for a key of the command line that the recipe lacks, with the nearest it has; None for a known one.

    expanded: the recipe with its blocks in place.
    """
    if key in expanded:
        return None
    missing = unknown_part(full_name(key, expanded), expanded)
    if missing is None:
        return None
    if "." in key:
        parts = {name.rpartition(".")[2]: name for name in missing[1]}
        near = parts.get(nearest(missing[0], list(parts), 0.6))
    else:
        own = [*expanded, *sorted(RUN_OPTIONS)]
        begun = [name for name in own if name.startswith(key)]
        inside = [name.rpartition(".")[2] for name in setting_names(expanded)]
        near = next(iter(begun), None) or nearest(key, [*own, *inside], 0.75) or nearest(key, own)
    hint = f"did you mean --{near}?" if near else f"known keys: {', '.join(missing[1] or expanded)}"
    return f"{path} has no key {key!r}; {hint}"


def _check_command(draft: Draft, command: str | None) -> None:
    """Raises UsageError where the other script runs a recipe."""
    makes = {"train.py": "model", "interpret.py": "interpreter"}
    for script, key in makes.items():
        if command in makes and command != script and key in draft.tree and makes[command] not in draft.tree:
            does = "trains a classifier" if script == "train.py" else "explains a classifier"
            raise UsageError(f"{draft.path} {does}: run `python {script} {draft.path}`")


def _changed(draft: Draft, line: _Line, problems: list[str]) -> CommentedMap | None:
    """The recipe's resolved tree with the command line's changes; None where problems keep it from being resolved."""
    before = draft.expanded()
    draft.change(line.changes, before)
    fit = [*_unset(draft), *_unused(draft), *_displaced(draft, before), *_unknown_in_blocks(draft)]
    problems += [f"{draft.path}: {problem}" for problem in fit]
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
    values = plain(draft.tree)
    return {key: value for key, value in values.items() if not isinstance(value, Tagged) or key not in RULES}


def _wrong_values(values: Mapping, line: _Line) -> list[str]:
    """Values and run options that are out of range, in the recipe and inside its blocks."""
    inside = {}
    for key, value in block_settings(values).items():
        if key not in values and value is not None:  # of null inside a block, the object that is built judges
            inside[key] = value
    wrong = value_problems(values) + value_problems(inside) + device_problems(line.options, values)
    return ["; ".join(wrong)] if wrong else []


def _unset(draft: Draft) -> list[str]:
    """Placeholders that nobody replaced."""
    problems = []
    for key, node in draft.tree.items():
        if tag_of(node) == "PLACEHOLDER":
            problems.append(
                f"{key!r} is a !PLACEHOLDER and must be replaced; set it on the command line or in the YAML"
            )
    return problems


def _unused(draft: Draft) -> list[str]:
    """Top-level keys that nothing reads: misspelt ones, in the words of the file that holds them."""
    whole = OBJECTS.intersection(draft.tree)  # else a fragment, whose settings others refer to
    used = {*(READ_KEYS if whole else RULES), *RUN_OPTIONS, *OBJECTS, *referenced(draft.tree)}
    problems = []
    for key in draft.tree:
        if key not in used:
            near = nearest(key, sorted((used | {*RULES}) - {*draft.tree}), 0.6) or nearest(key, sorted(used), 0.6)
            origin = draft.written_in.get(key, draft.path)
            place = "" if origin == draft.path else f" of {origin}"
            problems.append(f"nothing uses the key {key!r}{place}" + (f"; did you mean {near}?" if near else ""))
    return problems


def _displaced(draft: Draft, before: CommentedMap) -> list[str]:
    """Plain values where a block of keys or an object was."""
    problems = []
    for key, node in before.items():
        now = draft.tree[key]
        if (isinstance(node, dict) or tag_of(node).startswith(BUILT)) and not (
            isinstance(now, dict) or tag_of(now).startswith(BUILT)
        ):
            problems.append(f"{key}={plain(now)!r} stands where a block of keys is; change them in the YAML")
    return problems


def _unknown_in_blocks(draft: Draft) -> list[str]:
    """Blocks that are not there, and keys that a recipe sets in a block that has no such key."""
    problems = []
    for key, node in draft.tree.items():
        if not tag_of(node).startswith("include:"):
            continue
        file = Path(tag_of(node).removeprefix("include:"))
        if not file.is_file():
            problems.append(f"{key} includes {file}, which is not there{advice(file)}")
        elif isinstance(node, dict):
            problems += _unknown_overrides(node, compose(file).expanded(), file)
    return problems


def _unknown_overrides(changes: CommentedMap, block: CommentedMap, file: Path, prefix: str = "") -> list[str]:
    problems = []
    for key, value in changes.items():
        name = f"{prefix}{key}" if prefix else full_name_in_block(key, block)
        missing = unknown_part(name, block)
        if missing is not None:
            near = nearest(missing[0], [known.rpartition(".")[2] for known in missing[1]])
            hint = f"did you mean --{near}?" if near else f"known keys: {', '.join(missing[1])}"
            problems.append(f"{file} has no key {name!r}; {hint}")
        elif isinstance(value, dict) and not tag_of(value):
            problems += _unknown_overrides(value, block, file, f"{name}.")
        elif isinstance(block.get(name), dict) and tag_of(value) == "" and value is not None:
            parts = ", ".join(f"{name}.{part}" for part in block[name])
            problems.append(f"{name}={plain(value)!r} stands where an object is; set one of {parts}")
    return problems


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
