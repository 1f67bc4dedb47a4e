"""The comparison with the stock recipes, with a stand-in for a checkout of SpeechBrain."""

import csv

import pytest

import tools.stock
from models.errors import UsageError
from tools.bench import instructions
from tools.runner import ROOT
from tools.stock import L2I, LMAC, PIQ, SCORE, TRAIN, Comparison, main, read_options, subset, table, timed_process
from tools.stock_stages import Stage

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


def test_a_run_of_two_steps_counts_their_clips(tmp_path):
    steps = 'run_opts={"noprogressbar": True, "debug": True, "debug_batches": 2, "debug_epochs": 1}'
    (tmp_path / "script.py").write_text(STAND_IN.replace('run_opts={"noprogressbar": True', steps[:-1]))
    stages = timed_process([str(tmp_path / "script.py"), "hparams/x.yaml", "--a=b"], threads=1, last="train")
    assert stages.keys() == {"train"}
    assert stages["train"].clips == 2  # of one clip each


def test_a_subset_has_the_first_clips_of_every_fold_and_their_classes(corpus, tmp_path):
    assert subset(corpus, 4, tmp_path / "ESC-50") == 2
    rows = list(csv.DictReader((tmp_path / "ESC-50/meta/esc50.csv").open()))
    assert len(rows) == 20
    assert {fold: sum(row["fold"] == fold for row in rows) for fold in "12345"} == dict.fromkeys("12345", 4)
    assert {row["target"] for row in rows} == {"0", "1"}
    assert all((tmp_path / "ESC-50/audio" / row["filename"]).is_file() for row in rows)


def test_the_ratio_is_of_seconds_a_clip():
    sides = {
        "precision": "auto",
        "stock": {"seconds": 12.0, "cpu_seconds": 30.0, "clips": 12, "peak_gb": 4.0},
        "ours": {"seconds": 3.0, "cpu_seconds": 6.0, "clips": 6, "peak_gb": 1.5},
    }
    line = table({"training epoch": sides}).splitlines()[-1]
    assert line == f"| training epoch | 2.50 | 2.00 | {instructions()} | auto | 6 | 1.000 | 0.500 | 4.00 | 1.50 |"


def test_every_run_of_ours_has_a_folder_and_the_precision_of_its_own(tmp_path, monkeypatch):
    for name in (TRAIN, SCORE, LMAC, PIQ, L2I):
        script = tmp_path / "recipes" / "ESC50" / name
        script.parent.mkdir(parents=True, exist_ok=True)
        script.touch()
    lines = []

    def stages(line: list[str], threads: int, last: str | None) -> dict[str, Stage]:
        lines.append(line)
        return dict.fromkeys(("train", "score"), Stage(1.0, 1.0, 1, 1.0))

    monkeypatch.setattr(tools.stock, "timed_process", stages)
    options = read_options([f"--speechbrain={tmp_path}", f"--data_folder={tmp_path}", "--precision=fp32"])
    Comparison(options, tmp_path, 2, tmp_path).run()
    ours = [line for line in lines if line[0] == str(ROOT / "interpret.py")]
    experiments = []
    for line in ours:
        named = [argument for argument in line if argument.startswith("--experiment=")]
        experiments.append(named[0] if named else line[1])
        assert {"--precision=fp32", "--eval_precision=fp32"} & set(line)
    assert len(experiments) == len(set(experiments)) == 7


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
