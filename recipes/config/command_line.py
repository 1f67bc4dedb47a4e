"""What a command line says about a recipe: its keys, SpeechBrain's run options, and the commands' own switches."""

from dataclasses import dataclass, field
from pathlib import Path

from ruamel.yaml.comments import CommentedMap, CommentedSeq

from models.errors import UsageError
from recipes.config.compose import Draft, full_name, setting_names, unknown_part
from recipes.config.options import RUN_OPTIONS, Option, nearest, read_run_option
from recipes.config.rules import RULES, TEXT_KEYS
from recipes.config.yaml_text import NULLS, read_value

SWITCHES = ("download", "masks")
"""Flags of the commands that change nothing in what a run computes, and are no keys of a recipe."""


@dataclass
class CommandLine:
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


def read_line(arguments: list[str], draft: Draft, problems: list[str]) -> CommandLine:
    """What a command line asks for; what is wrong with it joins the problems.

    A name that the recipe and SpeechBrain share, such as precision, is the recipe's, so that the kept configuration
    says what ran. An abbreviation is nobody's.
    """
    line = CommandLine()
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
        if key == "audio" and len(_files(option)) > 1:
            return CommentedSeq(_files(option))
        if not text and RULES[key][1](None):  # null would be taken for what was meant
            raise UsageError(
                f"--{option.key}= has no value, as where a variable of the shell is empty: give one, or null"
            )
        return None if text in NULLS else text
    try:
        return read_value(text)
    except UsageError as error:
        raise UsageError(
            f"--{option.key}={text} cannot be read: {error}; put text with such characters into quotation marks, "
            f"--{option.key}='\"…\"'"
        ) from error


def _files(option: Option) -> list[str]:
    """The files that `--audio=a.wav b.wav` or `--audio=[a.wav, b.wav]` names; a file of such a name is one file."""
    text = " ".join(option.words)
    if text.startswith("[") and text.endswith("]") and "," in text and not Path(text).exists():
        return [name.strip() for name in text[1:-1].split(",") if name.strip()]
    return option.words


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
