"""Runs of train.py and interpret.py in forked processes, and signals sent to them at chosen moments.

Importing torch and SpeechBrain takes longer than a tiny recipe. So this process imports them once and forks, and each
child runs the script itself.
"""

import contextlib
import os
import runpy
import signal
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

import recipes.classification
import recipes.interpretation  # noqa: F401  imported here so that the forked children need not
from tools.runner import ROOT

TINY = ROOT / "tests" / "recipes" / "tiny.yaml"


@dataclass(frozen=True)
class Command:
    """A script with its arguments; the output folder and the cache are chosen when it is run."""

    script: str
    arguments: tuple[str, ...]
    experiment: str

    def line(self, folder: Path) -> list[str]:
        """The whole command line, with results and cache in this folder."""
        return [self.script, *self.arguments, f"--output_folder={folder / 'out'}", f"--cache_folder={folder / 'cache'}"]

    def run(self, folder: Path) -> Path:
        """The folder of the run that `line(folder)` makes."""
        return folder / "out" / self.experiment / "7"


def commands(data: Path, classifier: Path) -> dict[str, Command]:
    """A tiny training with a checkpoint at every step, and a tiny L-MAC with a report."""
    common = (f"--data_folder={data}", "--device=cpu", "--noprogressbar")
    steps = ("--ckpt_interval_minutes=0", "--ckpt_interval_steps=2", "--epochs=2", "--batch_size=10")
    lmac = (
        str(ROOT / "hparams" / "lmac.yaml"), *common, *steps, f"--classifier={classifier}", "--seed=7",
        "--precision=fp32", "--report_clips=2", "--interpreter={width: 16}",
    )  # fmt: skip
    return {
        "train": Command("train.py", (str(TINY), *common, "--ckpt_interval_steps=1"), "tiny"),
        "interpret": Command("interpret.py", lmac, "lmac"),
    }


def start(line: list[str], log: Path, before: Callable[[], None] | None = None) -> int:
    """Fork a process that runs a script of this repository, and return its id.

    line: the script and its arguments. log: the file that receives what it prints. before: what it calls first.
    """
    process = os.fork()
    if process:
        return process
    code = 1
    try:  # whatever happens, the child must not go on as a copy of its parent
        if before:
            before()
        _run_script(line, log)
        code = 0
    except SystemExit as leaving:
        code = leaving.code if isinstance(leaving.code, int) else 1
    except BaseException as error:
        with contextlib.suppress(BaseException):
            traceback.print_exception(error)
    finally:
        with contextlib.suppress(BaseException):
            sys.stdout.flush()
        os._exit(code)


def _run_script(line: list[str], log: Path) -> None:
    os.setsid()
    sys.stdout = sys.stderr = log.open("w", buffering=1)
    torch.set_num_threads(1)
    sys.argv = line
    sys.path.insert(0, str(ROOT))
    runpy.run_path(str(ROOT / line[0]), run_name="__main__")


def wait(process: int) -> int:
    """The exit code of a process that was started; negative: the signal that ended it."""
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def finish(line: list[str], log: Path) -> int:
    """Run a command to its end; its exit code."""
    return wait(start(line, log))


def kill(process: int, due: Callable[[], bool], number: int = signal.SIGKILL) -> int | None:
    """Send a signal as soon as `due()` is true.

    Returns the exit code (negative: the signal that ended the process), or None where it had ended well before.
    """
    while not due():
        ended, status = os.waitpid(process, os.WNOHANG)
        if ended:
            code = os.waitstatus_to_exitcode(status)
            return None if code == 0 else code
        time.sleep(1e-3)
    with contextlib.suppress(ProcessLookupError):
        os.kill(process, number)
    code = wait(process)
    return None if code == 0 else code


def after(seconds: float) -> Callable[[], bool]:
    """A condition that is true from so many seconds on."""
    moment = time.monotonic() + seconds
    return lambda: time.monotonic() >= moment


def seen(folder: Path, pattern: str, delay: float) -> Callable[[], bool]:
    """A condition that is true `delay` seconds after a new file of that pattern appeared in the folder."""
    old = set(folder.glob(pattern))
    moment: float | None = None

    def due() -> bool:
        nonlocal moment
        if moment is None and any(path not in old for path in folder.glob(pattern)):
            moment = time.monotonic() + delay
        return moment is not None and time.monotonic() >= moment

    return due
