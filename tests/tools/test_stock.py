"""The comparison with the stock recipes, with a stand-in for a checkout of SpeechBrain."""

import csv

import pytest

from models.errors import UsageError
from tools.stock import main, subset, table, timed_process

STAND_IN = """
import sys, torch, time
import speechbrain as sb
from transformers import FocalNetBackbone

class Stood(sb.Brain):
    def compute_forward(self, batch, stage):
        return self.modules.net(batch[0])
    def compute_objectives(self, found, batch, stage):
        return found.mean()

data = torch.utils.data.TensorDataset(torch.ones(6, 2))
brain = Stood({"net": torch.nn.Linear(2, 1)}, lambda p: torch.optim.SGD(p, 0.1), run_opts={"noprogressbar": True})
brain.fit(range(1), data, data)
brain.evaluate(test_set=data)
with torch.device("meta"):
    config = FocalNetBackbone.from_pretrained("microsoft/focalnet-base").config
assert (config.model_type, config.image_size, config.hidden_sizes[-1]) == ("focalnet", 224, 1024), config
assert sys.argv[1:] == ["hparams/x.yaml", "--a=b"]
"""


def test_a_script_runs_as_it_is_with_its_stages_timed(tmp_path):
    (tmp_path / "script.py").write_text(STAND_IN)
    found = timed_process([str(tmp_path / "script.py"), "hparams/x.yaml", "--a=b"], threads=1)
    assert found.keys() == {"train", "score"}
    assert all(stage.clips == 6 and stage.seconds > 0 for stage in found.values())


def test_a_subset_has_the_first_clips_of_every_fold_and_their_classes(corpus, tmp_path):
    assert subset(corpus, 4, tmp_path / "ESC-50") == 2
    rows = list(csv.DictReader((tmp_path / "ESC-50/meta/esc50.csv").open()))
    assert len(rows) == 20
    assert {fold: sum(row["fold"] == fold for row in rows) for fold in "12345"} == dict.fromkeys("12345", 4)
    assert {row["target"] for row in rows} == {"0", "1"}
    assert all((tmp_path / "ESC-50/audio" / row["filename"]).is_file() for row in rows)


def test_the_ratio_is_of_seconds_a_clip():
    sides = {
        "stock": {"seconds": 12.0, "cpu_seconds": 30.0, "clips": 12, "peak_gb": 4.0},
        "ours": {"seconds": 3.0, "cpu_seconds": 6.0, "clips": 6, "peak_gb": 1.5},
    }
    line = table({"training epoch": sides}).splitlines()[-1]
    assert line == "| training epoch | 6 | 1.000 | 0.500 | 2.00 | 2.50 | 4.00 | 1.50 |"


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ([], "--speechbrain is missing: give the path of a folder"),
        (["--speechbrain=x"], "--data_folder is missing: give the path of a folder"),
        (["--speechbrain=x", "--data_folder=y"], "x has no recipes/ESC50/classification/train.py: give a checkout of"),
    ],
)
def test_what_is_missing_is_said(given, told):
    with pytest.raises(UsageError, match=told):
        main(given)
