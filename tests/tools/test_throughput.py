"""Rows of throughput: every network, stage and variant runs, and the figures follow from what was measured."""

import pytest
import torch

from recipes.training.brain import multiply_in_float32
from tests.helpers import refusal
from tools.bench_cases import Bench
from tools.throughput import Row, check_batches, main, prepare, training_call

ROW = Row("vit", "train", "eager", "bf16", batch=4, seconds=0.5, flops=2e9, peak_gb=1.25, syncs=1, warm_up=3.0)


def test_the_cells_of_a_row_are_worked_out_by_hand():
    # 2e9 operations in 0.5 s at 1.6e10 a second: a quarter; 4 clips in 0.5 s
    assert ROW.cells({"bf16": 1.6e10}) == ["vit", "train", "eager", "25%", "8", "125", "4", "1.2", "1", "3.0"]


def test_channels_last_changes_the_layout_and_not_the_answer():
    multiply_in_float32()
    torch.manual_seed(0)
    plain = prepare("cnn14", "eager", "cpu")
    laid_out = prepare("cnn14", "channels_last", "cpu")
    laid_out.load_state_dict(plain.state_dict())
    spectrogram = plain.frontend.analyze(torch.randn(1, 16000))
    with torch.no_grad():
        answers = [network.eval()(spectrogram).logits for network in (plain, laid_out)]
    torch.testing.assert_close(*answers, rtol=1e-4, atol=1e-4)


def test_a_training_step_moves_the_weights():
    classifier = prepare("cnn14", "eager", "cpu")
    before = [weight.detach().clone() for weight in classifier.parameters()]
    step = training_call("cnn14", classifier, Bench("cpu", 0.1, "fp32"), batch=2)
    step()
    moved = [not torch.equal(old, new) for old, new in zip(before, classifier.parameters(), strict=True)]
    assert sum(moved) > len(moved) / 2  # the first rate of its schedule is 1e-8, which moves no large weight


def test_an_unknown_network_is_refused(capsys):
    with pytest.raises(SystemExit) as leaving:
        main(["--networks", "nothing"])
    assert leaving.value.code == 2
    assert "invalid choice: 'nothing'" in capsys.readouterr().err


def test_one_clip_a_batch_is_refused_where_a_head_has_a_batch_norm():
    sentence = refusal(main, ["--batch_size=1", "--networks", "cnn14", "vit"])
    assert sentence.startswith(
        "vit: batch_size=1 cannot train this classifier: the batch norm of its head takes a mean"
    )
    assert sentence.endswith("; or pass --stages score")
    check_batches(["vit"], ["score"], batch=1)
    check_batches(["vit"], ["train"], batch=2)
    check_batches(["cnn14"], ["train"], batch=1)  # a batch norm over time and frequency has enough to average
