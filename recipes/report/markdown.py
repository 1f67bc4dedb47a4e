"""Numbers as text, Markdown tables, and documents whose tables are filled in."""

import re
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path

from recipes.system.files import write_atomically


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = []
    for cells in (header, ["---"] * len(header), *rows):
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def percent(share: float) -> str:
    """A share in whole percent; neither 0 nor 100 % where it is not exactly that."""
    if 0 < share < 0.005:
        return "<1 %"
    if 0.995 <= share < 1:
        return ">99 %"
    return f"{100 * share:.0f} %"


def short_number(value: float | None) -> str:
    """Three significant digits, or nothing for an undefined value."""
    return "" if value is None else f"{value:.3g}"


def fill_tables(document: str, tables: dict[str, str]) -> str:
    """A document with the text between `<!-- name -->` and `<!-- /name -->` replaced by the table of that name."""
    for name, table in tables.items():
        start, end = f"<!-- {name} -->\n", f"<!-- /{name} -->"
        between = re.compile(f"{re.escape(start)}.*?{re.escape(end)}", flags=re.DOTALL)
        # a function, because a replacement text would be read for backslashes
        document = between.sub(partial(_filled, f"{start}{table}\n{end}"), document)
    return document


def fill_page(path: Path, empty: str, tables: dict[str, str]) -> None:
    """`fill_tables` of a file, which is made from the text `empty` where it is not there."""
    page = path.read_text(encoding="utf-8") if path.exists() else empty
    write_atomically(path, fill_tables(page, tables).encode())


def _filled(text: str, match: re.Match) -> str:
    return text
