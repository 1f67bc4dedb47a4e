"""What the recipe tests share: one small synthetic corpus, its cache, and ways to run recipes on it."""

import csv
import functools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from helpers import save_tiny_clap
from recipe_files import HPARAMS, KINDS
from transformers import ASTConfig, ASTFeatureExtractor, ASTForAudioClassification

from recipes.classification import train_classifier
from recipes.config.recipe import load_recipe
from recipes.interpretation import run_interpreter


@pytest.fixture(scope="session")
def arguments(corpus, tmp_path_factory) -> Callable[..., list[str]]:
    """(recipe, output folder, *changes) -> the command line that runs it on the corpus."""
    cache = tmp_path_factory.mktemp("cache")

    def make(recipe: Path, output: Path, *changes: str) -> list[str]:
        folders = (f"--data_folder={corpus}", f"--cache_folder={cache}", f"--output_folder={output}")
        return [str(recipe), *folders, "--device=cpu", "--noprogressbar", *changes]

    return make


@pytest.fixture(scope="session")
def train(arguments) -> Callable[..., Path]:
    """(recipe, output folder, *changes) -> the run's folder, as `python train.py` does."""
    return lambda *given: train_classifier(load_recipe(arguments(*given)))


@pytest.fixture(scope="session")
def interpret(arguments) -> Callable[..., Path]:
    """(recipe, output folder, *changes) -> the folder written, as `python interpret.py` does."""
    return lambda *given: run_interpreter(load_recipe(arguments(*given)))


@pytest.fixture(scope="session")
def tiny_ast(tmp_path_factory) -> Path:
    """A checkpoint folder of a small Audio Spectrogram Transformer of three classes, as the hub holds one."""
    folder = tmp_path_factory.mktemp("published") / "tiny_ast"
    size = {"hidden_size": 32, "num_hidden_layers": 4, "num_attention_heads": 2, "intermediate_size": 32}
    torch.manual_seed(0)
    config = ASTConfig(max_length=128, id2label=dict(enumerate(("Speech", "Dog", "Rain"))), **size)
    ASTForAudioClassification(config).save_pretrained(folder)
    ASTFeatureExtractor(max_length=128).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_clap(tmp_path_factory) -> Path:
    """A checkpoint folder of a small CLAP, as the hub holds one."""
    return save_tiny_clap(tmp_path_factory.mktemp("published") / "tiny_clap")


@pytest.fixture(scope="session")
def bundle(train, tiny_ast, tiny_clap, tmp_path_factory) -> Callable[[str], Path]:
    """kind (of `KINDS`) -> the bundle of a small classifier trained for a moment; made once."""
    common = ("--clip_seconds=1.0", "--num_classes=10", "--batch_size=10", "--precision=fp32", "--eval_precision=fp32")

    @functools.cache
    def make(kind: str) -> Path:
        recipe, changes = KINDS[kind]
        changes = [change.format(tiny_ast=tiny_ast, tiny_clap=tiny_clap) for change in changes]
        return train(HPARAMS / recipe, tmp_path_factory.mktemp(kind), *common, *changes) / "classifier"

    return make


@pytest.fixture(scope="session")
def relabel(corpus, tmp_path_factory) -> Callable[..., Path]:
    """(change) -> a data folder of the corpus's sounds whose metadata rows went through `change`."""

    def make(change: Callable[[dict], dict]) -> Path:
        folder = tmp_path_factory.mktemp("relabelled")
        (folder / "audio").symlink_to(corpus / "audio")
        (folder / "meta").mkdir()
        with (corpus / "meta/synthetic.csv").open(newline="") as file:
            rows = [change(row) for row in csv.DictReader(file)]
        with (folder / "meta/relabelled.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
        return folder

    return make


@pytest.fixture(scope="session")
def three_folds(relabel) -> Path:
    """The corpus in folds 1, 2 and 3 of 40, 40 and 20 clips."""
    return relabel(lambda row: row | {"fold": {"4": "1", "5": "2"}.get(row["fold"], row["fold"])})


@pytest.fixture
def sound_file(tmp_path):
    """(name, waveform [N] or [N, channels], rate) -> a WAV of floats."""

    def write(name: str, waveform: np.ndarray, rate: int = 16000) -> Path:
        soundfile.write(tmp_path / name, waveform, rate, subtype="FLOAT")
        return tmp_path / name

    return write
