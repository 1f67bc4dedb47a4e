"""Whether the keys of a recipe fit together: nothing unset, nothing unused, nothing in the wrong place."""

from pathlib import Path

from ruamel.yaml.comments import CommentedMap

from recipes.config.compose import Draft, compose, full_name_in_block, referenced, unknown_part
from recipes.config.moved import advice
from recipes.config.options import RUN_OPTIONS, nearest
from recipes.config.rules import OBJECTS, READ_KEYS, RULES
from recipes.config.yaml_text import BUILT, plain, tag_of


def misfits(draft: Draft, before: CommentedMap) -> list[str]:
    """Everything about a recipe's keys that does not fit, in sentences.

    before: the recipe with its blocks in place, as it was before the command line changed it.
    """
    return [*_unset(draft), *_unused(draft), *_displaced(draft, before), *_unknown_in_blocks(draft)]


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
            unknown, known = missing
            near = nearest(unknown, [key_name.rpartition(".")[2] for key_name in known])
            hint = f"did you mean --{near}?" if near else f"known keys: {', '.join(known)}"
            problems.append(f"{file} has no key {name!r}; {hint}")
        elif isinstance(value, dict) and not tag_of(value):
            if _node(block, name) is not None:  # a mapping in the place of null is a value, for its reader to judge
                problems += _unknown_overrides(value, block, file, f"{name}.")
        elif isinstance(block.get(name), dict) and tag_of(value) == "" and value is not None:
            parts = ", ".join(f"{name}.{part}" for part in block[name])
            problems.append(f"{name}={plain(value)!r} stands where an object is; set one of {parts}")
    return problems


def _node(block: CommentedMap, name: str) -> object:
    """What a block holds under a dotted name; None where it holds nothing."""
    node: object = block
    for part in name.split("."):
        node = node.get(part) if isinstance(node, CommentedMap) else None
    return node
