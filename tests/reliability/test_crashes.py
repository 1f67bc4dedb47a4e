"""Kills, signals, full disks and read-only folders: nothing lost, nothing half-written, one sentence."""

import os
import random
import resource
import shutil
import signal
import stat
from pathlib import Path

import pytest

from models.errors import UsageError
from models.staging import STAGED
from recipes.runs.folder import claim_run
from recipes.system import files
from recipes.system.files import write_atomically
from tools.kills import Undisturbed, half_written, injure, results
from tools.processes import kill, seen, start, wait


@pytest.fixture
def reference(trained, explained) -> dict[str, dict]:
    return {"train": results(trained), "interpret": results(explained)}


@pytest.mark.parametrize(("name", "kills"), [("train", 2), ("interpret", 1)])
def test_a_killed_run_ends_as_the_undisturbed_one(tiny, reference, name, kills, tmp_path):
    undisturbed = Undisturbed(tiny[name], reference[name], seconds=2.0)
    tally = injure(undisturbed, kills, random.Random(1), tmp_path)
    assert sum(tally.phases.values()) == kills
    assert tally.identical == tally.runs >= 1
    assert (tally.half_written, tally.different, tally.leftovers) == ([], [], [])


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_leaves_a_checkpoint_of_the_last_step_and_the_rerun_ends_alike(
    tiny, reference, number, code, tmp_path
):
    command = tiny["train"]
    line = [*command.line(tmp_path), "--ckpt_interval_steps=0"]
    run = command.run(tmp_path)
    # the first epoch ends with a checkpoint; the signal comes in the second one
    found = kill(start(line, tmp_path / "log"), seen(run / "save", "CKPT*/CKPT.yaml", 0.0), number)
    assert found == code, (tmp_path / "log").read_text()
    told = (tmp_path / "log").read_text().splitlines()[-1]
    assert told == f"stopped by {signal.Signals(number).name}: give the same command again to go on"
    kept = [path.read_text() for path in (run / "save").glob("CKPT*/brain.ckpt")]
    assert any("step: 0" not in text for text in kept)
    assert not (run / "metrics.json").exists()
    assert wait(start(line, tmp_path / "log")) == 0
    assert results(run) == reference["train"]


def test_two_processes_do_not_share_a_runs_folder(tiny, tmp_path):
    run = tiny["train"].run(tmp_path)
    claimed = os.fork()
    if not claimed:
        claim_run(run)
        signal.pause()
        os._exit(0)
    try:
        while not (run / ".lock").exists():
            pass
        code = wait(start(tiny["train"].line(tmp_path), tmp_path / "log"))
    finally:
        os.kill(claimed, signal.SIGKILL)
        os.waitpid(claimed, 0)
    assert code == 2
    told = (tmp_path / "log").read_text().splitlines()[-1]
    assert told == f"error: another process is at work in {run}: wait for it, or pass another --experiment or --seed"
    claim_run(run)  # the kernel dropped the claim with its holder


def test_what_a_killed_run_was_writing_is_removed_by_the_next(tmp_path):
    (tmp_path / "run/media").mkdir(parents=True)
    (tmp_path / "run/media" / f"{STAGED}12-34").write_text("half")
    (tmp_path / "run" / f"{STAGED}abc").mkdir()
    (tmp_path / "run" / f"{STAGED}abc" / "weights.safetensors").write_text("half")
    (tmp_path / "run/whole.json").write_text("{}")
    claim_run(tmp_path / "run")
    assert {path.name for path in (tmp_path / "run").rglob("*")} == {".lock", "media", "whole.json"}


def limited(line: list[str], log: Path, size: int) -> int:
    """Run a command that can write no file beyond `size` bytes, as on a full disk; its exit code.

    What it says comes through a pipe, which has no such limit.
    """
    before, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    reading, writing = os.pipe()
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    process = start(line, Path(f"/dev/fd/{writing}"))
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
    signal.signal(signal.SIGXFSZ, handler)
    os.close(writing)
    with open(reading) as stream:  # noqa: PTH123  a descriptor
        log.write_text(stream.read())
    return wait(process)


@pytest.mark.parametrize(
    ("name", "size", "told"),
    [
        ("train", 100, "hashes.json cannot be written"),
        ("train", 1_000_000, "samples.i16 cannot be written"),
        ("train", 5_000_000, "save cannot be written"),  # torch's file of the optimiser
        ("interpret", 100_000, "save cannot be written"),
    ],
)
def test_a_full_disk_is_one_sentence_and_the_rerun_ends_alike(tiny, reference, explained, name, size, told, tmp_path):
    command, run = tiny[name], tiny[name].run(tmp_path)
    if name == "interpret":  # the decoded clips are its largest file: they are there already
        shutil.copytree(explained.parents[2] / "cache", tmp_path / "cache")
    assert limited(command.line(tmp_path), tmp_path / "log", size) == 2
    sentence = (tmp_path / "log").read_text().splitlines()[-1]
    assert sentence.startswith("error: ")
    assert told in sentence
    assert "Traceback" not in (tmp_path / "log").read_text()
    assert half_written(tmp_path, run) == []
    assert not list((tmp_path / "out").rglob(STAGED + "*"))
    assert wait(start(command.line(tmp_path), tmp_path / "log")) == 0
    assert results(run) == reference[name]


def test_a_full_disk_leaves_the_old_file(tmp_path, monkeypatch):
    write_atomically(tmp_path / "a.json", b"old")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(UsageError) as caught:
        write_atomically(tmp_path / "a.json", b"new")
    assert str(caught.value) == (
        f"{tmp_path / 'a.json'} cannot be written (No space left on device): make room there, or choose a folder that "
        "can be written"
    )
    assert (tmp_path / "a.json").read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


@pytest.fixture
def read_only(tmp_path):
    """A folder in which this process may not write, root or not: a file stands where its parent should be."""
    (tmp_path / "file").write_text("")
    return tmp_path / "file" / "folder"


@pytest.mark.parametrize("key", ["output_folder", "cache_folder"])
def test_a_folder_that_cannot_be_written_is_one_sentence(tiny, read_only, key, tmp_path):
    line = [*tiny["train"].line(tmp_path), f"--{key}={read_only}"]
    assert wait(start(line, tmp_path / "log")) == 2
    told = (tmp_path / "log").read_text().splitlines()[-1]
    assert told.startswith("error: ")
    assert str(read_only) in told
    assert "cannot be written (Not a directory)" in told
    assert "Traceback" not in (tmp_path / "log").read_text()


def test_a_read_only_folder_is_one_sentence_for_whoever_has_no_right_to_write(tiny, tmp_path_factory, tmp_path):
    """Permissions bind root only once it has become somebody else."""
    folder = tmp_path / "out"
    folder.mkdir()
    folder.chmod(stat.S_IRUSR | stat.S_IXUSR)
    process = os.fork()
    if not process:
        if os.geteuid() == 0:
            for parent in (tmp_path, *tmp_path.parents):
                if parent.name.startswith("pytest-") or parent == tmp_path:
                    parent.chmod(0o755)
            folder.chmod(0o555)
            os.setgroups([])
            os.setuid(65534)
        try:
            write_atomically(folder / "run/metrics.json", b"{}")
        except UsageError as error:
            os._exit(0 if "cannot be written (Permission denied)" in str(error) else 3)
        os._exit(4)
    assert wait(process) == 0
    folder.chmod(0o755)
    shutil.rmtree(folder)


def test_a_damaged_checkpoint_is_named(tiny, tmp_path):
    command, run = tiny["train"], tiny["train"].run(tmp_path)
    assert kill(start(command.line(tmp_path), tmp_path / "log"), seen(run / "save", "CKPT*/CKPT.yaml", 0.0)) == -9
    (checkpoint,) = (run / "save").glob("CKPT*")
    os.truncate(checkpoint / "classifier.ckpt", 1000)
    assert wait(start(command.line(tmp_path), tmp_path / "log")) == 2
    told = (tmp_path / "log").read_text().splitlines()[-1]
    assert told.startswith(f"error: the checkpoint {checkpoint} cannot be read (")
    assert told.endswith("): remove that folder to go on from the one before it")
