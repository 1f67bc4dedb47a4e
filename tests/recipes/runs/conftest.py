"""What the tests of runs share: tones, a classifier trained on them, and L-MAC of that classifier."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from recipe_files import TINY
from tones import LMAC, LMAC_SMALL, MODULATION, SMALL, Tones, make_tones


@pytest.fixture(scope="session")
def tones(tmp_path_factory) -> Tones:
    return make_tones(tmp_path_factory.mktemp("tones") / "set")


@pytest.fixture(scope="session")
def trained(train, tones, tmp_path_factory) -> Path:
    """The tiny classifier, trained for an epoch on the tones."""
    return train(TINY, tmp_path_factory.mktemp("trained"), *SMALL, f"--data_folder={tones.folder}")


@pytest.fixture(scope="session")
def explained(interpret, tones, trained, tmp_path_factory) -> Path:
    """L-MAC of the tiny classifier, trained for an epoch."""
    changes = (f"--data_folder={tones.folder}", f"--classifier={trained / 'classifier'}", *LMAC_SMALL)
    return interpret(LMAC, tmp_path_factory.mktemp("explained"), *changes)


@pytest.fixture
def mine(tones, trained, tmp_path) -> tuple[Tones, Path]:
    """A copy of the tones and of the classifier's run, to be changed."""
    shutil.copytree(trained, tmp_path / "out/tiny/7")
    return tones.copy(tmp_path / "set"), tmp_path / "out"


@pytest.fixture
def again(train, mine) -> Callable[..., Path]:
    """(*changes) -> the run's folder, as the command gives it again."""
    tones, output = mine
    return lambda *changes: train(TINY, output, *SMALL, f"--data_folder={tones.folder}", *changes)


@pytest.fixture
def modulation(interpret, tones, trained, tmp_path) -> Callable[..., Path]:
    """(*changes) -> the run's folder of the modulation map on the tiny classifier."""
    given = (f"--data_folder={tones.folder}", f"--classifier={trained / 'classifier'}", "--report_clips=0")
    return lambda *changes: interpret(MODULATION, tmp_path / "out", *given, *changes)
