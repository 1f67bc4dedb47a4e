"""What the reliability tests share: the harness on the path, a tiny corpus, a trained classifier."""

import sys
from pathlib import Path

import pytest
from speechbrain.utils.importutils import LazyModule

sys.path.insert(0, str(Path(__file__).parents[2]))

from recipes.synthetic import make_corpus
from tools.processes import Command, commands, finish

for module in list(sys.modules.values()):  # hypothesis asks every module for its file, and these would be imported
    if isinstance(module, LazyModule):
        vars(module).setdefault("__file__", None)


@pytest.fixture(scope="session")
def data(tmp_path_factory) -> Path:
    """Ten classes of ten clips of one second."""
    return make_corpus(tmp_path_factory.mktemp("data") / "set", clips_per_class=10, seconds=1.0, mixtures=0)


@pytest.fixture(scope="session")
def trained(data, tmp_path_factory) -> Path:
    """The run's folder of an undisturbed tiny training."""
    folder = tmp_path_factory.mktemp("trained")
    command = commands(data, folder)["train"]
    assert finish(command.line(folder), folder / "log") == 0, (folder / "log").read_text()
    return command.run(folder)


@pytest.fixture(scope="session")
def tiny(data, trained) -> dict[str, Command]:
    """The tiny training, and the tiny L-MAC on what it trained."""
    return commands(data, trained / "classifier")


@pytest.fixture(scope="session")
def explained(tiny, tmp_path_factory) -> Path:
    """The run's folder of an undisturbed tiny L-MAC."""
    folder = tmp_path_factory.mktemp("explained")
    assert finish(tiny["interpret"].line(folder), folder / "log") == 0, (folder / "log").read_text()
    return tiny["interpret"].run(folder)
