"""YAML as text: reading a file or one value of it, writing a document, and saying in plain words what is wrong.

Files are read by the rules of YAML 1.2, which are HyperPyYAML's: 1e-3 is a number, `on` is text. Tags are kept.
"""

import io
import re
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML, YAMLError
from ruamel.yaml.comments import CommentedMap, CommentedSeq, TaggedScalar
from ruamel.yaml.nodes import ScalarNode
from ruamel.yaml.scalarstring import ScalarString

from models.errors import UsageError
from recipes.config.moved import with_current_names
from recipes.config.tagged import Tagged

NULLS = ("", "~", "null", "Null", "NULL")
BUILT = ("new:", "name:", "include:", "apply:", "applyref:", "module:")
WIDE = 10_000
# what ruamel says: what that means
REASONS = (
    ("duplicate key", "a key stands twice"),
    ("',' or ']'", "a '[' is not closed, or a comma is missing"),
    ("',' or '}'", "a '{' is not closed, or a comma is missing"),
    ("unexpected end of stream", "a quotation mark is not closed"),
    ("mapping values are not allowed", "a colon stands where no key can be"),
    ("could not find expected ':'", "a colon after a key is missing"),
    ("undefined alias", "'*' stands for a reference, and there is none of that name"),
    ("expected alphabetic or numeric", "'*' or '&' begins a reference, which needs a name"),
    ("cannot start any token", "a value cannot begin with this character"),
    ("expected <block end>", "lines are indented differently"),
    ("special characters are not allowed", "it holds a control character"),
    ("unacceptable character", "it holds a control character"),
)


# a number sign outside quotation marks, at the start or after a space
_COMMENT = re.compile(r"""^(?:[^'"]|'[^']*'|"[^"]*")*?(?:^|(?<=\s))#""")


def read_text(path: Path) -> str:
    """The text of a YAML file, with names that have moved since it was written replaced by today's.

    Raises UsageError where the file is not UTF-8.
    """
    try:
        return with_current_names(path.read_text(encoding="utf-8"))
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is not UTF-8 text: save it as UTF-8") from error


def read_tree(text: str, origin: object, text_keys: frozenset[str] = frozenset()) -> CommentedMap:
    """A document as a tree that keeps its tags and quotation marks and drops its comments.

    text_keys: top-level keys whose values are text whatever they look like, such as `experiment: 2024`.
    Raises UsageError where the text is not YAML, or holds no keys.
    """
    try:
        tree = _reader().load(text)
    except YAMLError as error:
        raise UsageError(f"{origin} is not valid YAML: {plain_reason(error)}") from error
    if not isinstance(tree, CommentedMap):
        raise UsageError(f"{origin} must hold keys with values, not {type(plain(tree)).__name__}")
    for key in text_keys.intersection(tree):
        if tree[key] is not None and not isinstance(tree[key], str | list | TaggedScalar):
            tree[key] = _scalars_as_written(text).get(key, tree[key])
    drop_comments(tree)
    return tree


def parse(text: str, origin: object) -> dict:
    """A document as plain values, with `Tagged` for what is tagged. Raises UsageError as `read_tree`."""
    return plain(read_tree(text, origin))


def read_value(text: str) -> object:
    """One value as YAML reads it: 3, [1, 2], null, {a: 1}. Raises UsageError with the reason in plain words."""
    if "\n" in text or "\r" in text:
        raise UsageError("it is more than one line")
    if _COMMENT.search(text):
        raise UsageError("'#' begins a comment")
    if text.startswith("&"):
        raise UsageError("'&' begins a reference")
    if text.startswith("!") and not text[1:].startswith(BUILT):
        raise UsageError("'!' begins a tag, such as !name:torch.optim.SGD")
    try:
        tree = _reader().load(f"value: {text}\n")
    except YAMLError as error:
        raise UsageError(plain_reason(error, lines=False)) from error
    drop_comments(tree)
    return tree["value"]


def write_tree(tree: CommentedMap) -> str:
    """A tree as a document that reads back as the same values."""
    stream = io.StringIO()
    _reader().dump(tree, stream)
    return stream.getvalue()


def plain(node: Any) -> Any:
    """A node of a tree as plain Python values; what is tagged becomes `Tagged`."""
    tag = tag_of(node)
    if isinstance(node, dict):
        value = {key: plain(part) for key, part in node.items()}
    elif isinstance(node, list):
        value = [plain(part) for part in node]
    elif isinstance(node, TaggedScalar):
        value = node.value
    else:
        return _plain_scalar(node)
    return Tagged(tag, value) if tag else value


def tag_of(node: object) -> str:
    """A node's tag without its exclamation mark, such as "new:a.B"; "" where it has none or is tagged as text."""
    tag = getattr(node, "tag", None)
    name = (getattr(tag, "value", None) or "") if tag is not None else ""
    return name[1:] if name.startswith("!") and not name.startswith("!!") else ""


def plain_reason(error: YAMLError, lines: bool = True) -> str:
    """What is wrong with a text, in plain words, with the line where that is."""
    message = " ".join(str(error).split())
    reason = "its punctuation cannot be understood"
    for sign, meaning in reversed(REASONS):
        if sign in message:
            reason = meaning
    duplicate = re.search(r'duplicate key "([^"]*)"', message)
    if duplicate:
        reason = f"the key {duplicate[1]!r} stands twice"
    mark = getattr(error, "problem_mark", None)
    return f"line {mark.line + 1}: {reason}" if lines and mark is not None else reason


def drop_comments(node: object) -> None:
    """Take the comments off a tree, so that what is written holds values only."""
    if isinstance(node, CommentedMap | CommentedSeq):
        node.ca.comment = None
        node.ca.items.clear()
        node.ca.end = []
        for part in node.values() if isinstance(node, dict) else node:
            drop_comments(part)


def _reader() -> YAML:
    reader = YAML()
    reader.width = WIDE  # a long text stays on one line
    reader.preserve_quotes = True
    return reader


def _scalars_as_written(text: str) -> dict[str, str]:
    """Top-level scalars without quotation marks, as they stand: 2024, 1e-3 or 2024-01-01."""
    root = YAML().compose(text)
    scalars = {}
    for key, value in root.value:
        if isinstance(value, ScalarNode):
            scalars[key.value] = value.value
    return scalars


def _plain_scalar(node: object) -> object:
    if isinstance(node, ScalarString):
        return str(node)
    if isinstance(node, bool) or node is None:
        return node
    for kind in (int, float):
        if isinstance(node, kind):
            return kind(node)
    return node
