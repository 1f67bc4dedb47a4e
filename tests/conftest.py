"""What the tests share: one thread, one seed, small classifiers, and the folder of optional inputs."""

import copy
import functools
import os
from pathlib import Path

import pytest
import torch
from helpers import save_tiny_clap

from models.adapters import ImageAdapter, MelAdapter, PlaneAdapter
from models.clap import ClapClassifier
from models.classifier import AudioClassifier, CosineHead
from models.cnn14 import CNN14
from models.conv2d import Conv2d
from models.focalnet import FocalNet
from models.frontend import FrontEnd
from models.vit import ViT
from recipes.synthetic import make_corpus

NUM_CLASSES = 5

torch.set_num_threads(1)  # parallel tests would share the cores anyway, and sums keep their order


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def shared() -> Path | None:
    """The folder of large inputs that no repository holds: EARWITNESS_SHARED, or `shared` beside the repository."""
    folder = Path(os.environ.get("EARWITNESS_SHARED", Path(__file__).parents[2] / "shared"))
    return folder if folder.is_dir() else None


@pytest.fixture(scope="session")
def corpus(tmp_path_factory) -> Path:
    """Ten classes of ten clips of one second, in five folds of twenty."""
    return make_corpus(tmp_path_factory.mktemp("synthetic") / "corpus", clips_per_class=10, seconds=1.0, mixtures=0)


@functools.cache
def _built(name: str) -> AudioClassifier:
    torch.manual_seed(0)
    frontend = FrontEnd()
    if name == "cnn14":
        return AudioClassifier(
            frontend,
            MelAdapter(frontend),
            CNN14(width=1 / 16),
            functools.partial(CosineHead, num_classes=NUM_CLASSES),
        )
    adapter, backbone = {
        "conv2d": lambda: (PlaneAdapter(), Conv2d(4)),
        "focalnet": lambda: (ImageAdapter(64), FocalNet("nano")),
        "vit": lambda: (ImageAdapter(), ViT("nano")),
    }[name]()
    head = functools.partial(CosineHead, num_classes=NUM_CLASSES, num_blocks=1)
    return AudioClassifier(frontend, adapter, backbone, head)


def _fresh(name: str) -> AudioClassifier:
    return copy.deepcopy(_built(name))


@pytest.fixture
def focalnet() -> AudioClassifier:
    """FocalNet "nano" on a 64-pixel image, 16 kHz, random weights, training mode."""
    return _fresh("focalnet")


@pytest.fixture
def vit() -> AudioClassifier:
    """ViT "nano" on its 224-pixel image, 16 kHz, random weights, training mode."""
    return _fresh("vit")


@pytest.fixture
def cnn14() -> AudioClassifier:
    """CNN14 of 4 to 128 channels, 16 kHz, random weights, training mode."""
    return _fresh("cnn14")


@pytest.fixture
def clap(tmp_path) -> ClapClassifier:
    """CLAP of three stages whose classes are five prompts, 16 kHz, random weights, training mode."""
    return ClapClassifier(FrontEnd(), str(save_tiny_clap(tmp_path / "clap")), ["dog", "rain", "sea", "cat", "wind"])


@pytest.fixture(params=["focalnet", "vit", "cnn14", "conv2d"])
def classifier(request) -> AudioClassifier:
    """Each of these in turn."""
    return _fresh(request.param)
