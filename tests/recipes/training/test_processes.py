"""Several processes as one run, over gloo: the same scores and weights as one process, and one writer."""

import csv
import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from speechbrain.utils.run_opts import RunOptions
from torch.utils.data import BatchSampler

from models.errors import UsageError
from recipes.config.recipe import load_recipe
from recipes.system import parallel
from recipes.system.parallel import Share, join
from recipes.training.brain import RecipeBrain, seed_step
from recipes.training.interpreter_brain import InterpreterBrain
from tools.processes import TINY, start, wait
from tools.runner import ROOT

HPARAMS = ROOT / "hparams"
STEADY = {"optim.AdamW": "optim.SGD", "optim.Adam\n": "optim.SGD\n", "drop_path: 0.1": "drop_path: 0.0"}
ROUNDING = 3e-6
"""Of weights after a few steps whose sums were taken in another order: relative, or absolute for small ones."""


def writes_nothing_into(folder: Path) -> None:
    """From now on this process fails at a write below that folder, but for its own journal of scores."""

    def look(event: str, given: tuple) -> None:
        writing = event == "open" and isinstance(given[2], int) and given[2] & (os.O_WRONLY | os.O_RDWR)
        if writing and Path(given[0]).name == f"scoring-{os.environ['RANK']}.jsonl":
            return
        if (writing or event in ("os.rename", "os.remove")) and str(given[0]).startswith(str(folder)):
            raise AssertionError(f"{event} of {given[0]} in a process that is not the first")

    sys.addaudithook(look)


@pytest.fixture
def launch(arguments, tmp_path) -> Callable[..., tuple[Path, str]]:
    """(processes, script, recipe, *changes, code, before) -> the output folder and what the first process said."""

    def run(processes, script, recipe, *changes, output=None, code=0, before=lambda: None) -> tuple[Path, str]:
        output = output or tmp_path / f"by{processes}"
        with socket.socket() as free:
            free.bind(("localhost", 0))
            port = free.getsockname()[1]

        def become(rank: int) -> None:
            if processes > 1:
                os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(processes)}
                os.environ |= {"MASTER_ADDR": "localhost", "MASTER_PORT": str(port)}
            if rank:
                writes_nothing_into(output)
            before()

        logs = [tmp_path / f"log{rank}of{processes}" for rank in range(processes)]
        line = [script, *arguments(recipe, output, *changes)]
        children = [start(line, log, lambda rank=rank: become(rank)) for rank, log in enumerate(logs)]
        codes = [wait(child) for child in children]
        said = [log.read_text() for log in logs]
        assert codes == [code] * processes, said
        assert not any("report:" in other or "accuracy" in other for other in said[1:])
        return output, said[0]

    return run


def steady(recipe: Path, folder: Path) -> Path:
    """A recipe without random draws in training, and with an optimiser that does not blow rounding up."""
    text = recipe.read_text()
    if extended := re.search(r"^extends: (.+)", text, re.M):
        bases = [name.strip(" []") for name in extended[1].partition("#")[0].split(",")]
        copies = [str(steady(recipe.parent / base, folder)) for base in bases]
        text = text.replace(extended[0], f"extends: [{', '.join(copies)}]")
    for old, new in STEADY.items():
        text = text.replace(old, new)
    text = re.sub(
        r"^augmentation:.*",
        "augmentation:\n  augmentation: !new:recipes.data.augmentation.Augmentation",
        text,
        flags=re.M,
    )
    text = re.sub(r"!include:(\S+)", lambda found: f"!include:{(recipe.parent / found[1]).resolve()}", text)
    (folder / recipe.name).write_text(text)
    return folder / recipe.name


def metrics(run: Path) -> dict:
    return json.loads((run / "metrics.json").read_text())


def same_weights(one: Path, other: Path, tolerance: float) -> None:
    first, second = load_file(one / "weights.safetensors"), load_file(other / "weights.safetensors")
    assert first.keys() == second.keys()
    for name, value in first.items():
        close = torch.allclose(value, second[name], rtol=tolerance, atol=tolerance)
        assert close, f"{name} differs by up to {(value - second[name]).abs().max()}"


@pytest.fixture(scope="module")
def odd(relabel) -> Path:
    """The corpus with 19 clips in fold 5, all of them unseen by a classifier of folds 1 to 4."""
    moved = iter([True])
    return relabel(lambda row: row | {"fold": "4"} if row["fold"] == "5" and next(moved, False) else row)


SCORING = ("--quantile=[0.5,0.9]", "--eval_batch_size=4", "--report_clips=0")


def test_scores_of_two_and_of_three_processes_are_those_of_one(launch, bundle, odd):
    given = (HPARAMS / "modulation.yaml", f"--classifier={bundle('focalnet')}", f"--data_folder={odd}", *SCORING)
    runs = {n: launch(n, "interpret.py", *given)[0] / "modulation/1234" for n in (1, 2, 3)}
    rows = list(csv.DictReader((runs[1] / "clips.csv").open()))
    assert len(rows) == len({row["id"] for row in rows}) == 19
    for n in (2, 3):
        assert (runs[n] / "clips.csv").read_bytes() == (runs[1] / "clips.csv").read_bytes()
        assert metrics(runs[n])["metrics"] == metrics(runs[1])["metrics"]
        assert metrics(runs[n])["sweep"] == metrics(runs[1])["sweep"]
        assert metrics(runs[n])["device"] == f"{n} x cpu, 1 threads"
        names = [sorted(str(path.relative_to(run)) for path in run.rglob("*")) for run in (runs[n], runs[1])]
        assert names[0] == names[1]


def end_in_the_second_batch() -> None:
    """Let this process be killed once it has scored one batch."""
    score, calls = InterpreterBrain._scores, []

    def end(brain, batch):
        calls.append(batch)
        return score(brain, batch) if len(calls) == 1 else os._exit(9)

    InterpreterBrain._scores = end


def test_scoring_that_two_processes_began_is_ended_by_three(launch, bundle, odd, tmp_path):
    command = (HPARAMS / "modulation.yaml", f"--classifier={bundle('focalnet')}", f"--data_folder={odd}", *SCORING)
    whole = launch(1, "interpret.py", *command)[0] / "modulation/1234"
    stopped = {"output": tmp_path / "stopped"}
    launch(2, "interpret.py", *command, **stopped, code=9, before=end_in_the_second_batch)
    folder, said = launch(3, "interpret.py", *command, **stopped)
    assert "score clean: 2 of 5 batches were scored before" in said
    assert (folder / "modulation/1234/clips.csv").read_bytes() == (whole / "clips.csv").read_bytes()
    assert not list(folder.rglob("scoring-*"))


def test_fewer_batches_than_processes_are_scored_once(launch, bundle):
    given = (HPARAMS / "modulation.yaml", f"--classifier={bundle('focalnet')}", "--eval_batch_size=20")
    run = launch(2, "interpret.py", *given, "--report_clips=0")[0] / "modulation/1234"
    assert len((run / "clips.csv").read_text().splitlines()) == 21


@pytest.mark.parametrize("accumulation", [1, 2])
def test_a_training_by_two_processes_ends_with_the_weights_of_one(launch, tmp_path, accumulation):
    recipe = steady(TINY, tmp_path)
    given = (recipe, "--peak_lr=0.001", f"--grad_accumulation_factor={accumulation}")
    one, two = (launch(n, "train.py", *given)[0] / "tiny/7" for n in (1, 2))
    same_weights(one / "classifier", two / "classifier", ROUNDING)
    first, second = metrics(one), metrics(two)
    assert first["metrics"] == pytest.approx(second["metrics"], abs=1e-6)
    assert first["training"]["lr_highest"] == second["training"]["lr_highest"]
    logs = [re.findall(r"loss: (\S+)", (run / "train_log.txt").read_text()) for run in (one, two)]
    assert len(logs[0]) == 4
    assert [float(x) for x in logs[0]] == pytest.approx([float(x) for x in logs[1]], rel=1e-2)  # as printed


@pytest.mark.parametrize(
    ("name", "options"),
    [("lmac_focalnet", ("--peak_lr=0.001", "--interpreter={width: 16}")), ("piq_focalnet_small", ())],
)
def test_an_interpreter_trained_by_two_processes_is_that_of_one(launch, bundle, tmp_path, name, options):
    recipe = steady(HPARAMS / f"{name}.yaml", tmp_path)
    changes = ("--epochs=1", "--batch_size=20", "--precision=fp32", "--report_clips=0", *options)
    given = ("interpret.py", recipe, f"--classifier={bundle('focalnet')}", *changes)
    one, two = (launch(n, *given)[0] / name / "1234" for n in (1, 2))
    same_weights(one / "interpreter", two / "interpreter", 5e-5)  # 4e-4 where PIQ's last batch norm is not shared
    for score, value in metrics(one)["metrics"].items():
        assert metrics(two)["metrics"][score] == pytest.approx(value, abs=1e-5), score


def test_a_run_goes_on_under_another_number_of_processes(launch, tmp_path):
    recipe, saved = steady(TINY, tmp_path), []
    given = ("train.py", recipe, "--peak_lr=0.001", "--ckpt_interval_steps=1")
    save = RecipeBrain._save_intra_epoch_ckpt

    def cut(brain) -> None:
        save(brain)
        saved.append(1)
        if len(saved) == 9:  # six steps an epoch
            sys.exit(9)

    def interrupted() -> None:
        RecipeBrain._save_intra_epoch_ckpt = cut

    whole = launch(1, *given)[0] / "tiny/7"
    for first, then in ((2, 1), (1, 2)):
        output = tmp_path / f"from{first}"
        launch(first, *given, output=output, code=9, before=interrupted)
        resumed = launch(then, *given, output=output)[0] / "tiny/7"
        same_weights(whole / "classifier", resumed / "classifier", ROUNDING)
        assert metrics(resumed)["metrics"] == pytest.approx(metrics(whole)["metrics"], abs=1e-6)


def test_mistakes_are_told_once(launch, tmp_path):
    _, said = launch(2, "train.py", TINY, "--batch_size=15", code=2)
    assert said.splitlines()[-1] == (
        "error: batch_size=15 cannot be divided among 2 processes: it counts the clips of all of them; "
        "make it a multiple"
    )
    occupied = tmp_path / "occupied"
    occupied.write_text("no folder")  # this one only the first process notices
    _, said = launch(2, "train.py", TINY, output=occupied, code=2)
    assert said.splitlines()[-1].startswith(f"error: {occupied / 'tiny/7'} cannot be written (Not a directory)")
    assert (tmp_path / "log1of2").read_text() == ""


def test_a_named_gpu_is_refused_under_torchrun(monkeypatch):
    monkeypatch.setenv("LOCAL_RANK", "1")
    with pytest.raises(UsageError, match="device='cuda:0' under torchrun: leave it out"):
        join(RunOptions(device="cuda:0"))


def test_torchrun_itself(arguments, bundle, tmp_path):
    line = arguments(HPARAMS / "modulation.yaml", tmp_path, f"--classifier={bundle('focalnet')}", "--report_clips=0")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", "interpret.py"]
    done = subprocess.run(
        [*command, *line],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.count("report:") == 1
    assert len((tmp_path / "modulation/1234/clips.csv").read_text().splitlines()) == 21


def pretend(monkeypatch, rank: int, world: int) -> None:
    monkeypatch.setattr(parallel, "rank", lambda: rank)
    monkeypatch.setattr(parallel, "world_size", lambda: world)
    monkeypatch.setattr("recipes.training.brain.rank", lambda: rank)


def test_shares_of_batches_are_disjoint_and_whole(monkeypatch):
    whole, halves = [], []
    for rank in range(2):
        pretend(monkeypatch, rank, 2)
        whole.append(list(Share(BatchSampler(range(9), 4, False), within=False)))
        share = Share(BatchSampler(range(9), 4, True), within=True)
        halves.append(list(share))
        assert len(share) == 2
        assert len(whole[rank]) == len(Share(BatchSampler(range(9), 4, False), within=False))
    assert whole == [[[0, 1, 2, 3], [8]], [[4, 5, 6, 7]]]
    assert halves == [[[0, 2], [4, 6]], [[1, 3], [5, 7]]]
    with pytest.raises(UsageError, match="batch_size=3 cannot be divided among 2 processes"):
        Share(BatchSampler(range(9), 3, True), within=True)


def test_every_process_draws_for_itself(monkeypatch):
    drawn = []
    for rank in range(3):
        pretend(monkeypatch, rank, 3)
        seed_step(1, 2, 3)
        drawn.append(torch.rand(1).item())
    monkeypatch.undo()
    seed_step(1, 2, 3)
    assert len(set(drawn)) == 3
    assert torch.rand(1).item() == drawn[0]


def test_the_slurm_example_is_shell_and_names_recipes_that_are_read(tmp_path):
    script = ROOT / "docs/examples/slurm.sh"
    subprocess.run(["bash", "-n", script], check=True)
    text = script.read_text().replace("\\\n", " ")
    assert re.search(r"^#SBATCH --nodes=\d+$", text, re.M)
    assert re.search(r"^#SBATCH --ntasks-per-node=1$", text, re.M)
    lines = re.findall(r"(?:train|interpret)\.py (hparams/\S+) (.*)", text)
    assert len(lines) == 2
    for recipe, options in lines:
        load_recipe([str(ROOT / recipe), *re.sub(r"\$\w+", "x", options).replace('"', "").split(), "--device=cpu"])
