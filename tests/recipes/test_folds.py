"""The command that adds folds to a table."""

import csv
from collections import Counter
from pathlib import Path

import pytest

from models.errors import UsageError
from recipes.folds import add_folds, main


@pytest.fixture
def table(tmp_path) -> Path:
    """Thirty clips of ten recordings, five for each class, with a column without a name."""
    path = tmp_path / "list.csv"
    lines = ["path,label,session,"]
    for k in range(30):
        lines.append(f'"wav/{k}, take.wav",{"cat" if k < 15 else "dog"},s{k // 3},')
    path.write_text("\r\n".join([*lines, ",,,", ""]))
    return path


def rows(path: Path) -> list[dict]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_folds_are_added_and_the_table_as_it_was_is_kept(table, capsys):
    before = table.read_bytes()
    main([str(table), "--filename=path", "--category=label", "--src_file=session"])
    after = rows(table)
    assert list(after[0]) == ["path", "label", "session", "fold"]
    assert [row["path"] for row in after] == [f"wav/{k}, take.wav" for k in range(30)]
    assert Counter((row["fold"], row["label"]) for row in after) == {
        (str(fold), label): 3 for fold in range(1, 6) for label in ("cat", "dog")
    }
    assert len({(row["session"], row["fold"]) for row in after}) == 10
    assert table.with_name("list.csv.original").read_bytes() == before
    assert "fold 1: 6 clips\nfold 2: 6 clips\n" in capsys.readouterr().out


def test_known_columns_need_not_be_named(tmp_path):
    path = tmp_path / "metadata.csv"
    path.write_text("file_name,label\na.wav,cat\nb.wav,cat\nc.wav,cat\n")
    assert sorted(add_folds(path, {}, 3)) == [1, 2, 3]


@pytest.mark.parametrize(
    ("content", "columns", "count", "sentence"),
    [
        ("filename,category,fold\na.wav,cat,1\n", {}, 5, "has the column 'fold': its folds are left as they are"),
        ("path,category\na.wav,cat\n", {}, 5, r"lacks the columns \['filename'\]"),
        ("filename,category\na.wav,cat\n", {"src_file": "session"}, 5, r"lacks the columns \['session'\]"),
        ("filename,category\na.wav,cat\n", {}, 2, "--folds=2: training, validation and test need at least 3"),
    ],
)
def test_tables_that_cannot_have_folds_added_are_told_and_left(tmp_path, content, columns, count, sentence):
    path = tmp_path / "x.csv"
    path.write_text(content)
    with pytest.raises(UsageError, match=sentence):
        add_folds(path, columns, count)
    assert path.read_text() == content
    assert [file.name for file in tmp_path.iterdir()] == ["x.csv"]


def test_an_earlier_original_is_not_overwritten(table):
    table.with_name("list.csv.original").write_text("precious")
    with pytest.raises(UsageError, match=r"list\.csv\.original is there already"):
        add_folds(table, {"filename": "path", "category": "label"})
    assert table.with_name("list.csv.original").read_text() == "precious"
