"""Data folders as the commands take them: refused before anything slow, and nothing is made or fetched unasked."""

from types import SimpleNamespace

import pytest
import torch
from recipe_files import TINY

from models.errors import UsageError
from recipes.config.recipe import load_recipe
from recipes.data import preparation
from recipes.report.mixture import write_mixture
from recipes.scoring.table import ClipTable


def test_a_class_without_training_clips_is_refused_before_training(train, relabel, tmp_path):
    folder = relabel(lambda row: row | ({"fold": "5"} if row["category"] in ("siren", "clicks") else {}))
    with pytest.raises(
        UsageError, match=r"2 of the 10 classes .*: clicks \(only in fold 5\), siren \(only in fold 5\)"
    ):
        train(TINY, tmp_path / "out", f"--data_folder={folder}")
    assert not (tmp_path / "out").exists()


def test_a_data_folder_that_is_not_there_is_refused_and_not_made(train, tmp_path, monkeypatch):
    monkeypatch.setattr(preparation, "download_esc50", lambda folder: pytest.fail("a download was not asked for"))
    with pytest.raises(UsageError, match=r"data_folder=.*gone is not there: .*pass --download"):
        train(TINY, tmp_path / "out", f"--data_folder={tmp_path / 'gone'}")
    assert list(tmp_path.iterdir()) == []


class Asked(Exception):
    """Stands for a download."""


def test_a_download_is_asked_for_by_a_flag(train, tmp_path, monkeypatch):
    def ask(folder):
        raise Asked(folder)

    monkeypatch.setattr(preparation, "download_esc50", ask)
    with pytest.raises(Asked, match="gone"):
        train(TINY, tmp_path / "out", f"--data_folder={tmp_path / 'gone'}", "--download")


def test_the_flag_is_no_part_of_the_configuration(arguments, tmp_path):
    plain = load_recipe(arguments(TINY, tmp_path))
    asked = load_recipe(arguments(TINY, tmp_path, "--download"))
    assert asked.sha256 == plain.sha256
    assert (plain.values["download"], asked.values["download"]) == (False, True)


def test_clips_of_one_class_make_no_mixture(tmp_path):
    table = ClipTable()
    table.add(
        torch.arange(3),
        label=torch.ones(3),
        prediction=torch.tensor([1, 0, 1]),
        acc=torch.tensor([1.0, 0.0, 1.0]),
        probability=torch.tensor([0.5, 0.4, 0.9]),
    )
    result = SimpleNamespace(folder=tmp_path, table=table)
    assert write_mixture(SimpleNamespace(subject=None), result) is None
    assert list(tmp_path.iterdir()) == []


def test_a_table_with_other_columns_trains_by_one_command(train, relabel, tmp_path):
    names = {"filename": "path", "category": "label", "fold": "part", "src_file": "take from"}

    def rename(row: dict) -> dict:
        return {names[key]: row[key] for key in names}

    folder = relabel(rename)
    columns = "--columns={" + ", ".join(f"{key}: {name}" for key, name in names.items()) + "}"
    run = train(TINY, tmp_path, f"--data_folder={folder}", columns, "--epochs=1")
    plain = train(TINY, tmp_path / "plain", "--epochs=1")
    assert len((run / "clips.csv").read_text().splitlines()) == len((plain / "clips.csv").read_text().splitlines())
    with pytest.raises(UsageError, match=r"lacks the columns \['filename', 'fold', 'category'\]"):
        train(TINY, tmp_path / "no", f"--data_folder={folder}")


def test_columns_are_names(arguments, tmp_path):
    with pytest.raises(UsageError, match=r"columns=\['path'\] must be null or names of a table's columns"):
        load_recipe(arguments(TINY, tmp_path, "--columns=[path]"))


def test_folds_without_a_part_are_told(train, tmp_path, caplog):
    train(TINY, tmp_path, "--epochs=1", "--train_folds=[1,2]")
    assert "The clips of fold 3 of synthetic are not used by train_folds, valid_folds or test_folds." in caplog.text
