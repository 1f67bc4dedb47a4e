"""The page of a classifier: curves from its log, mistakes first."""

import json
import re
from types import SimpleNamespace

import pytest
import torch

from recipes.data.corpus import Clip, Corpus
from recipes.report.classifier_page import read_curves, write_classifier_page
from recipes.scoring.table import ClipTable

LOG = """Epoch loaded: 2 - test acc: 0.5
epoch: 1, lr: 1.05e-03 - train loss: 3.20 - valid acc: 1.33e-01, valid loss: 2.64
epoch: 2, lr: 2.00e-03 - train loss: 2.20 - valid acc: 3.00e-01, valid loss: nan
"""


def test_curves_are_read_from_the_log(tmp_path):
    (tmp_path / "train_log.txt").write_text(LOG)
    curves = read_curves(tmp_path / "train_log.txt")
    assert curves["train loss"] == [(1, 3.2), (2, 2.2)]
    assert curves["valid acc"] == [(1, 0.133), (2, 0.3)]
    assert curves["valid loss"][0] == (1, 2.64)
    assert read_curves(tmp_path / "nowhere.txt") == {}


@pytest.mark.parametrize("log", [LOG, None])
def test_the_most_certain_mistakes_stand_first(tmp_path, log):
    if log:
        (tmp_path / "train_log.txt").write_text(log)
    names = ("dog", "cat")
    clips = tuple(Clip(f"c{k}", tmp_path / f"c{k}.wav", 1, (0,), ("dog",), f"c{k}") for k in range(4))
    table = ClipTable()
    table.add(
        torch.arange(4),
        label=torch.zeros(4),
        prediction=torch.tensor([0, 1, 1, 0]),
        probability=torch.tensor([0.9, 0.6, 0.8, 0.7]),
        acc=torch.tensor([1.0, 0.0, 0.0, 1.0]),
    )
    facts = SimpleNamespace(
        experiment="tried", data={"name": "toy", "test_folds": [5]}, seed=1, commit="a", device="cpu"
    )
    write_classifier_page(tmp_path, facts, table, Corpus("toy", clips, names))
    page = (tmp_path / "report.html").read_text()
    assert "4 test clips: 50 % classified correctly, 2 wrong." in page
    content = json.loads(re.search(r'id="data">(.*?)</script>', page, re.DOTALL)[1])
    assert [row["id"] for row in content["rows"]] == ["c2", "c1", "c0", "c3"]
    assert [column["key"] for column in content["columns"]] == ["clip", "label", "prediction", "probability"]
    assert ("Learning curves" in page) == bool(log)
    assert "Explained clips" not in page and "<article" not in page
