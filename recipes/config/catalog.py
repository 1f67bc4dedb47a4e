"""Finding one's way: which recipes and tools there are, and what the keys of a recipe mean.

Reads files as text and imports nothing that takes time.
"""

import ast
import re
import textwrap
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ruamel.yaml.comments import CommentedMap

from recipes.config.compose import compose, find_recipe
from recipes.config.options import RUN_OPTIONS, SWITCH
from recipes.config.yaml_text import plain, read_text, tag_of

HPARAMS = Path(__file__).parents[2] / "hparams"
COMMANDS = {"train.py": "Train a sound classifier.", "interpret.py": "Explain a sound classifier."}
CLASSIFIERS = "Classifiers"
OTHER_METHODS = "Other methods"
PUBLISHED = "Published set-ups, one for each row of the papers' tables"
PUBLISHED_FITS = "the classifiers of the same papers"
WIDTH = 118

_HEADER = re.compile(r"\A(?:#.*\n)*")
_GROUP = re.compile(r"Group: ([^.]+)\.(?: Fits: (.+)\.)?")
_KEY = re.compile(r"^(\s*)([\w.]+):(.*)$")


@dataclass
class Group:
    """Recipes of one kind. fits: the classifiers that its methods explain, as a phrase; "" for classifiers."""

    name: str
    fits: str = ""
    recipes: dict[str, str] = field(default_factory=dict)


def answer(arguments: list[str], command: str) -> str | None:
    """What to print for a command line that asks for help; None for one that asks for work.

    Without arguments, with --help or --list: usage, recipes and tools. With a recipe and --help: the recipe's keys.
    Raises UsageError for a recipe that is not there.
    """
    asks = {"--help", "-h", "--list"}.intersection(arguments)
    if not arguments or arguments[0] in asks:
        return overview(command)
    return recipe_help(find_recipe(Path(arguments[0])), command) if asks else None


def overview(command: str) -> str:
    """A command's usage, its recipes in groups, and the tools."""
    counterpart = "interpret.py" if command == "train.py" else "train.py"
    usage = {
        f"python {command} RECIPE.yaml [--key=value ...]": "run a recipe with some of its keys changed",
        f"python {command} RECIPE.yaml --help": "the recipe's keys, with their values and what they mean",
        f"python {counterpart} --list": "the recipes of the other command",
    }
    parts = [f"{COMMANDS[command]}\n", _table("Usage", usage)]
    for group in groups(command):
        title = f"{group.name} (for {group.fits})" if group.fits else group.name
        parts.append(_table(title, group.recipes))
    parts.append(_table("Tools, each with --help", tools()))
    return "\n".join(parts)


def overview_of_tools() -> str:
    """The two commands and the tools, for `python -m recipes`."""
    commands = {}
    for command, sentence in COMMANDS.items():
        commands[f"python {command}"] = sentence
    return f"{_table('Commands, each with --help and --list', commands)}\n{_table('Tools, each with --help', tools())}"


def groups(command: str) -> list[Group]:
    """The recipes of a command by kind, in the order of their names."""
    key = "model" if command == "train.py" else "interpreter"
    by_name: dict[str, Group] = {}
    for path in sorted(HPARAMS.glob("*.yaml")):
        writes = _line_of(path, key)
        if writes is None:
            continue
        name, fits = (CLASSIFIERS, "") if key == "model" else _kind_of(writes)
        group = by_name.setdefault(name, Group(name, fits))
        group.fits = min(group.fits, fits, key=len)  # a method that asks for more says so in its own help
        group.recipes[f"hparams/{path.name}"] = first_sentence(path.read_text(encoding="utf-8"))
    return [*sorted(by_name.values(), key=lambda group: group.name), _published(key)]


def _published(key: str) -> Group:
    """The papers' own set-ups that write a key."""
    group = Group(PUBLISHED, PUBLISHED_FITS if key == "interpreter" else "")
    for path in sorted((HPARAMS / "paper").glob("*.yaml")):
        if _line_of(path, key) is not None:
            group.recipes[f"hparams/paper/{path.name}"] = first_sentence(path.read_text(encoding="utf-8"))
    return group


def _line_of(path: Path, key: str) -> tuple[Path, str] | None:
    """The file that writes a top-level key of a recipe, and what stands behind it; None where no file does.

    The files are searched as text: putting fifty recipes together takes half a second.
    """
    text = path.read_text(encoding="utf-8")
    written = re.search(rf"^{key}: *(.*)$", text, re.MULTILINE)
    if written:
        return path, written[1]
    extended = re.search(r"^extends: *(.*)$", text, re.MULTILINE)
    for base in reversed(re.findall(r"[^\s\[\],]+", extended[1])) if extended else ():
        inherited = _line_of(path.parent / base, key)
        if inherited:
            return inherited
    return None


def _kind_of(written: tuple[Path, str]) -> tuple[str, str]:
    """The group of a method and the classifiers that it fits, from the header of the block that a recipe includes."""
    path, value = written
    file = path.parent / value.removeprefix("!include:").strip()
    kind = _GROUP.search(header(file.read_text(encoding="utf-8"))) if file.is_file() else None
    return (kind[1], kind[2] or "") if kind else (OTHER_METHODS, "")


def header(text: str) -> str:
    """The comment that a YAML file begins with, as one line, without its command lines."""
    sentences = []
    for line in _HEADER.match(text)[0].splitlines():
        is_command = line.startswith("#   ")
        if not is_command:
            sentences.append(line.removeprefix("#").strip())
    return " ".join(sentences)


def first_sentence(text: str) -> str:
    """The first sentence of a file's header."""
    return re.split(r"\.(?:\s|$)", header(text))[0].strip() + "."


def tools() -> dict[str, str]:
    """`python -m recipes.X` for every command of recipes/, with the first sentence of its docstring."""
    commands = {}
    for path in sorted((HPARAMS.parent / "recipes").glob("*.py")):
        text = path.read_text(encoding="utf-8")
        if '__name__ == "__main__"' in text and path.name != "__main__.py":
            docstring = " ".join((ast.get_docstring(ast.parse(text)) or "").split())
            commands[f"python -m recipes.{path.stem}"] = re.split(r"\.(?:\s|$)|: python ", docstring)[0] + "."
    return commands


def recipe_help(path: Path, command: str) -> str:
    """A recipe's keys with their values and comments, those inside its blocks by their dotted names."""
    draft = compose(path)
    comments: dict[str, str] = {}
    for file in draft.files:
        comments |= comments_of(read_text(file))
    expanded = draft.expanded()
    own: dict[str, str] = {}
    sections = [f"{path}: {header(read_text(path))}\n", f"usage: python {command} {path} [--key=value ...]\n"]
    tables = []
    for key, node in expanded.items():
        if isinstance(node, CommentedMap):
            block = tag_of(draft.tree[key]).removeprefix("include:")
            inner = _block_comments(Path(block), key) | comments if block.endswith(".yaml") else comments
            tables.append(_table(f"Inside {key}", _settings(node, key, inner)))
        elif tag_of(node) in ("", "PLACEHOLDER") or tag_of(node).startswith("env:"):
            own[f"--{key}={shown(node)}"] = comments.get(key, "")
    options = []
    for name, kind in RUN_OPTIONS.items():
        options.append(f"--{name}" if kind == SWITCH else f"--{name}=…")
    shown_options = textwrap.fill(" ".join(options), WIDTH, initial_indent="  ", subsequent_indent="  ")
    sections += [_table("Keys", own), *tables, f"Run options of SpeechBrain\n{shown_options}\n"]
    return "\n".join(filter(None, sections))


def _block_comments(file: Path, key: str) -> dict[str, str]:
    comments: dict[str, str] = {}
    for part in compose(file).files:
        for name, comment in comments_of(read_text(part)).items():
            comments[f"{key}.{name}"] = comment
    return comments


def _settings(node: CommentedMap, prefix: str, comments: dict[str, str]) -> dict[str, str]:
    """The values below a block or an object by dotted name, references to other keys left out."""
    rows = {}
    for key, value in node.items():
        name = f"{prefix}.{key}"
        if isinstance(value, CommentedMap):
            rows |= _settings(value, name, comments)
        elif tag_of(value) in ("", "PLACEHOLDER"):
            rows[f"--{name}={shown(value)}"] = comments.get(name, "")
    return rows


def shown(node: Any) -> str:
    """A value as one would type it."""
    value = node.value if tag_of(node).startswith("env:") else plain(node)
    if tag_of(node) == "PLACEHOLDER":
        return "VALUE"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, list):
        return f"[{','.join(map(shown, value))}]"
    return str(value)


def comments_of(text: str) -> dict[str, str]:
    """The comment at the end of each key's line, by dotted name."""
    comments = {}
    indentations: list[int] = []  # of the key of a line and of the keys that enclose it
    names: list[str] = []
    for line in text.splitlines():
        written = _KEY.match(line)
        if written is None:
            continue
        indentation = len(written[1])
        while indentations and indentations[-1] >= indentation:
            indentations.pop()
            names.pop()
        indentations.append(indentation)
        names.append(written[2])
        comment = re.search(r"\s#\s+(.+)$", written[3])
        if comment:
            comments[".".join(names)] = comment[1]
    return comments


def _table(title: str, rows: dict[str, str]) -> str:
    """A title and its rows in two columns; "" where there are none."""
    if not rows:
        return ""
    column = min(max(map(len, rows)) + 2, 50)
    lines = [title]
    for name, meaning in rows.items():
        lead = f"  {name:<{column}}"
        if len(name) > column - 1 and meaning:
            lines.append(f"  {name}")
            lead = " " * (column + 2)
        lines.append(
            textwrap.fill(meaning, WIDTH, initial_indent=lead, subsequent_indent=" " * (column + 2)) or lead.rstrip()
        )
    return "\n".join(line.rstrip() for line in lines) + "\n"
