"""Bars, estimates and lines: on a terminal and without one."""

import os
import pty
import subprocess
import sys

import pytest

from recipes.system import console
from recipes.system.console import Bar, duration, quiet, track


class Clock:
    """A clock that moves when it is told to."""

    def __init__(self):
        self.seconds = 0.0

    def monotonic(self) -> float:
        return self.seconds


@pytest.fixture
def clock(monkeypatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(console, "time", clock)
    return clock


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0 s"), (89, "89 s"), (90, "2 min"), (3600, "60 min"), (5400, "1 h 30 min"), (7500, "2 h 5 min")],
)
def test_durations_are_said_as_people_say_them(seconds, text):
    assert duration(seconds) == text


def test_a_long_job_says_once_how_long_it_takes(clock, capsys):
    bar = Bar("score clean", steps=100)
    for step in range(10):
        clock.seconds = 2.0 * (step + 1)
        bar.advance()
    # after 6 s three of 100 steps are done: 2 s a step
    assert capsys.readouterr().err == "score clean: about 3 min in all\n"


def test_the_estimate_of_an_epoch_is_that_of_the_training(clock, capsys):
    bar = Bar("epoch 1/30 train", steps=10, rounds=30)
    clock.seconds = 6.0
    bar.advance()
    assert capsys.readouterr().err == "epoch 1/30 train: about 30 min in all, 30 times this stage\n"


def test_a_short_job_and_a_quiet_one_say_nothing(clock, capsys):
    bar = Bar("score clean", steps=10)
    clock.seconds = 5.5
    bar.advance()
    with quiet():
        bar = Bar("score clean", steps=1000)
        clock.seconds = 11.0
        bar.advance()
    assert capsys.readouterr().err == ""


def test_only_the_first_of_several_processes_speaks(clock, capsys, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    bar = Bar("score clean", steps=1000)
    clock.seconds = 6.0
    bar.advance()
    console.say("done")
    captured = capsys.readouterr()
    assert captured.err == captured.out == ""


def test_tracking_hands_on_every_item():
    assert list(track(iter("abc"), "prepare", 3)) == ["a", "b", "c"]


def test_a_terminal_sees_the_name_of_the_stage_and_a_pipe_does_not():
    code = """
import time
from recipes.system.console import track
for _ in track("ab", "epoch 1/3 train", 2):
    time.sleep(0.3)
"""
    command = [sys.executable, "-c", code]
    master, terminal = pty.openpty()
    subprocess.run(command, stderr=terminal, check=True, env=os.environ | {"TERM": "xterm", "COLUMNS": "100"})
    os.close(terminal)
    shown = os.read(master, 100_000).decode()
    os.close(master)
    assert "epoch 1/3 train" in shown and "1/2" in shown
    piped = subprocess.run(command, capture_output=True, text=True, check=True)
    assert piped.stderr == piped.stdout == ""
