"""What only a GPU shows: the same scores as on the CPU, pinned batches, processes over NCCL."""

import csv
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch.utils.data import DataLoader

from recipes.data.clips import fold_set, loader_options
from recipes.runs.data import open_store
from tools.processes import TINY
from tools.runner import ROOT

HPARAMS = ROOT / "hparams"

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="compares a CUDA device with the CPU, and there is none"),
]


def rows(run: Path) -> list[dict]:
    return list(csv.DictReader((run / "clips.csv").open()))


def test_a_classifier_trained_on_a_gpu_is_explained_alike_on_both(train, interpret, tmp_path):
    run = train(TINY, tmp_path, "--device=cuda:0", "--precision=auto")
    options = (f"--classifier={run / 'classifier'}", "--quantile=[0.5,0.9]", "--report_clips=0")
    on_cpu, on_gpu = [
        rows(interpret(HPARAMS / "modulation.yaml", tmp_path / name[:4], *options, f"--device={name}"))
        for name in ("cpu", "cuda:0")
    ]
    for cpu_row, gpu_row in zip(on_cpu, on_gpu, strict=True):
        assert (cpu_row["id"], cpu_row["prediction"]) == (gpu_row["id"], gpu_row["prediction"])
        assert float(cpu_row["probability"]) == pytest.approx(float(gpu_row["probability"]), abs=1e-3)


def test_batches_for_a_gpu_are_pinned(corpus, tmp_path):
    folds = {"folds": None, "train_folds": [1, 2, 3], "valid_folds": [4], "test_folds": [5]}
    values = {"data_folder": corpus, "cache_folder": tmp_path, "subset": None} | folds
    store = open_store(values, 1.0)
    batch = next(iter(DataLoader(fold_set(store, (1,), 4), **loader_options(4))))
    assert batch.waveform.is_pinned()


def test_torchrun_over_nccl(arguments, tmp_path):
    count = min(torch.cuda.device_count(), 4)
    line = arguments(TINY, tmp_path, f"--batch_size={10 * count}")
    line.remove("--device=cpu")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={count}", "train.py"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run([*command, *line], cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert len(rows(tmp_path / "tiny/7")) == 20
