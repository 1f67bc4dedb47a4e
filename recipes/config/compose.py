"""From a recipe's files to one document: `extends`, dotted keys, `!include:`, `!ref` and `!env:`.

A recipe is put together in this order, and what comes later has the last word:

1. the files it `extends`, one after the other, each put together in the same way;
2. its own keys, where `interpreter.sparsity: 6.4` changes one setting inside a block;
3. the keys of the command line.

Then every `!include:` is replaced by the file it names, with the keys below it changed, and every `!ref` by the value
it names. A `!ref` sees the keys of the file that it stands in, so that a block stands alone.
"""

import os
import re
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hyperpyyaml.core import deref, parse_arithmetic
from ruamel.yaml.comments import CommentedMap, CommentedSeq, TaggedScalar
from ruamel.yaml.tag import Tag

from models.errors import UsageError
from recipes.config.moved import advice, current_file
from recipes.config.options import nearest
from recipes.config.rules import TEXT_KEYS
from recipes.config.yaml_text import BUILT, plain, read_text, read_tree, tag_of

_REFERENCE = re.compile(r"<[^>]*>")
MAX_DEPTH = 20


@dataclass
class Draft:
    """A recipe that is put together, before its references are resolved.

    tree: its keys. written_in: the file that wrote each top-level key last. files: all that it is put together from,
    in order.
    """

    path: Path
    tree: CommentedMap
    written_in: dict[str, Path] = field(default_factory=dict)
    files: list[Path] = field(default_factory=list)

    def expanded(self) -> CommentedMap:
        """The tree with every included block in place, for looking at; references stay as they are written."""
        return _expanded(deepcopy(self.tree), 0)

    def change(self, changes: CommentedMap, expanded: CommentedMap) -> None:
        """Apply keys to the tree, dotted, nested, or short for a setting inside a block."""
        for key, value in changes.items():
            merge(self.tree, nested(full_name(key, expanded), value))


def find_recipe(path: Path) -> Path:
    """The file of a recipe. Raises UsageError where there is none, naming the one that may be meant."""
    path = current_file(path)
    if path.is_file():
        return path
    hint = "; `python train.py --list` and `python interpret.py --list` name all"
    for folder in (path.parent, Path("hparams")):
        stems = {file.stem: file for file in sorted(folder.glob("*.yaml"))}
        meant = path.stem if path.stem in stems and folder != path.parent else nearest(path.stem, list(stems), 0.7)
        if meant is not None:
            hint = f"; did you mean {stems[meant]}?"
            break
    raise UsageError(f"no recipe {path}{hint}")


def compose(path: Path, depth: int = 0) -> Draft:
    """Put a recipe's files together. Raises UsageError for a file that is missing or not YAML, and for a circle."""
    if depth > MAX_DEPTH:
        raise UsageError(f"{path} extends itself: take it out of its own `extends`")
    written = read_tree(read_text(path), path, TEXT_KEYS)
    bases = written.pop("extends", [])
    draft = Draft(path, CommentedMap())
    for base in bases if isinstance(bases, list) else [bases]:
        extended = compose(find_recipe(path.parent / str(base)), depth + 1)
        merge(draft.tree, extended.tree)
        draft.written_in.update(extended.written_in)
        draft.files += extended.files
    draft.files.append(path)
    _anchor_includes(written, path.parent)
    expanded = draft.expanded()
    for key in written:
        draft.written_in[full_name(key, expanded).partition(".")[0]] = path
    draft.change(written, expanded)
    return draft


def merge(target: CommentedMap, changes: CommentedMap) -> None:
    """Change keys of a tree: a plain mapping changes what it names inside a block or an object, all else replaces."""
    for key, value in changes.items():
        if isinstance(value, CommentedMap) and not tag_of(value) and _opens(target.get(key)):
            target[key] = _opened(target[key])
            merge(target[key], value)
        else:
            target[key] = value


def nested(name: str, value: object) -> CommentedMap:
    """The tree that changes one setting by its dotted name."""
    first, _, rest = name.partition(".")
    tree = CommentedMap()
    tree[first] = nested(rest, value) if rest else value
    return tree


def full_name(key: str, expanded: CommentedMap) -> str:
    """The dotted name of a setting: `sparsity` is `interpreter.sparsity` where only one block has a setting so called.

    A key of the recipe itself, and one that no block has, is returned as it is.
    """
    if key in expanded or "." in key:
        return key
    by_depth: dict[int, list[str]] = {}
    for name in setting_names(expanded):
        if name.rpartition(".")[2] == key:
            by_depth.setdefault(name.count("."), []).append(name)
    outermost = by_depth[min(by_depth)] if by_depth else []
    return outermost[0] if len(outermost) == 1 else key


def full_name_in_block(key: str, block: CommentedMap) -> str:
    """As `full_name`, for a block's own keys: `width` is `decoder.width` where only the decoder has a width."""
    whole = CommentedMap()
    whole["block"] = block
    return full_name(key, whole).removeprefix("block.")


def setting_names(expanded: CommentedMap) -> list[str]:
    """Dotted names of what can be set inside the blocks of a recipe: values, not references to other keys."""
    names = []
    for block, node in expanded.items():
        if isinstance(node, CommentedMap) and not tag_of(node):
            names += _names_below(node, block)
    return names


def _names_below(node: CommentedMap, prefix: str) -> list[str]:
    names = []
    for key, value in node.items():
        if tag_of(value) == "ref":
            continue
        names.append(f"{prefix}.{key}")
        if isinstance(value, CommentedMap):
            names += _names_below(value, f"{prefix}.{key}")
    return names


def unknown_part(name: str, expanded: CommentedMap) -> tuple[str, list[str]] | None:
    """The first part of a dotted name that is not there, and the names that are, dotted; None where all of it is.

    An object takes arguments that its YAML leaves out, so one that resembles no written argument passes.
    """
    node, reached = expanded, []
    for part in name.split("."):
        if not isinstance(node, CommentedMap):
            return part, []
        if part not in node:
            siblings = list(node)
            if tag_of(node) and nearest(part, siblings, 0.6) is None:
                return None
            return part, [".".join([*reached, sibling]) for sibling in siblings]
        node = node[part]
        reached.append(part)
    return None


def referenced(node: Any) -> set[str]:
    """Top-level keys that `!ref` and `!copy` name anywhere below a node."""
    if isinstance(node, dict):
        return set().union(*map(referenced, node.values()))
    if isinstance(node, list):
        return set().union(*map(referenced, node))
    if tag_of(node) in ("ref", "copy"):
        return set(re.findall(r"<\s*(\w+)", str(node.value)))
    return set()


def resolve(draft: Draft) -> CommentedMap:
    """The recipe's tree with includes, references and environment variables replaced by what they name.

    Raises UsageError for a placeholder left unset, a file or key that is not there, and references in a circle.
    """
    return _Resolver(deepcopy(draft.tree), draft.path).document()


class _Resolver:
    """Replaces the references of one document, whose keys they name."""

    def __init__(self, tree: CommentedMap, origin: Path, depth: int = 0):
        self.tree, self.origin, self.depth = tree, origin, depth
        self.followed: list[str] = []

    def document(self) -> CommentedMap:
        for key in list(self.tree):
            self.tree[key] = self.node(self.tree[key], key)
        return self.tree

    def node(self, node: Any, name: str) -> Any:
        tag = tag_of(node)
        if tag == "PLACEHOLDER":
            unset = f"{self.origin}: {name!r} is a !PLACEHOLDER and must be replaced"
            raise UsageError(f"{unset}; set it on the command line or in the YAML")
        if tag in ("ref", "copy") and isinstance(node, TaggedScalar):
            value = self.reference(node.value)
            return deepcopy(value) if tag == "copy" else value
        if tag.startswith("env:"):
            return environment_value(node)
        if isinstance(node, CommentedMap):
            for key in list(node):
                node[key] = self.node(node[key], f"{name}.{key}")
        elif isinstance(node, CommentedSeq):
            for index, part in enumerate(node):
                node[index] = self.node(part, f"{name}[{index}]")
        if tag.startswith("include:"):
            return _Resolver(_included(node, self.depth), Path(tag.removeprefix("include:")), self.depth + 1).document()
        return node

    def reference(self, text: str) -> object:
        """What `<key>`, `<block[key]>/name` or `2 * <key>` stands for."""
        if _REFERENCE.fullmatch(text):
            return self.lookup(text[1:-1])
        numbers_only = True
        for reference in _REFERENCE.findall(text):
            value = self.lookup(reference[1:-1])
            numbers_only = numbers_only and isinstance(value, int | float)
            text = text.replace(reference, str(plain(value)), 1)
        return parse_arithmetic(text) if numbers_only else text

    def lookup(self, name: str) -> object:
        """The node that `key`, `block[key]` or `object.attribute` names, with its own references resolved."""
        if name in self.followed:
            raise UsageError(f"{self.origin}: the references {' -> '.join([*self.followed, name])} go in a circle")
        self.followed.append(name)
        try:
            branch = self.tree
            keys = [part.strip("]") for part in name.partition(".")[0].split("[")]
            for key in keys:
                if not isinstance(branch, CommentedMap) or key not in branch:
                    raise UsageError(f"{self.origin}: !ref <{name}> names a key that is not there")
                # what a longer name passes through may itself hold the reference that is followed here
                if key == keys[-1] or tag_of(branch[key]).startswith(("include:", "ref")):
                    branch[key] = self.node(branch[key], key)
                branch = branch[key]
            return deref(name, self.tree) if "." in name else branch
        finally:
            self.followed.pop()


def environment_value(node: TaggedScalar) -> str:
    """What `!env:NAME value` stands for: the environment variable NAME where it is set, else the value."""
    return os.environ.get(tag_of(node).removeprefix("env:")) or node.value


def _included(node: object, depth: int) -> CommentedMap:
    """The block that a node `!include:file` names, with the keys below it changed."""
    file = Path(tag_of(node).removeprefix("include:"))
    if not file.is_file():
        raise UsageError(f"the block {file} is not there{advice(file)}")
    draft = compose(file, depth + 1)
    if isinstance(node, CommentedMap):
        expanded = draft.expanded()
        for key, value in node.items():
            merge(draft.tree, nested(full_name_in_block(key, expanded), value))
    return draft.tree


def _expanded(node: object, depth: int) -> object:
    if depth > MAX_DEPTH:
        raise UsageError(f"{tag_of(node)} includes itself")
    if tag_of(node).startswith("include:"):
        if not Path(tag_of(node).removeprefix("include:")).is_file():
            return node
        return _expanded(_included(node, depth), depth + 1)
    if isinstance(node, CommentedMap):
        for key in list(node):
            node[key] = _expanded(node[key], depth)
    return node


def _anchor_includes(node: object, folder: Path) -> None:
    """Make the paths of a file's `!include:` tags independent of the file that they stand in."""
    if isinstance(node, CommentedMap | CommentedSeq | TaggedScalar):
        tag = tag_of(node)
        if tag.startswith("include:"):
            file = current_file(folder / tag.removeprefix("include:"))
            node.yaml_set_ctag(Tag(suffix=f"!include:{os.path.normpath(file)}"))
    if isinstance(node, CommentedMap):
        for part in node.values():
            _anchor_includes(part, folder)
    elif isinstance(node, CommentedSeq):
        for part in node:
            _anchor_includes(part, folder)


def _opens(node: object) -> bool:
    """Whether a mapping may change parts of a node: a mapping itself, or a block or object without arguments yet."""
    return isinstance(node, CommentedMap) or (isinstance(node, TaggedScalar) and tag_of(node).startswith(BUILT))


def _opened(node: object) -> CommentedMap:
    if isinstance(node, CommentedMap):
        return node
    opened = CommentedMap()
    opened.yaml_set_ctag(Tag(suffix=f"!{tag_of(node)}"))
    return opened
