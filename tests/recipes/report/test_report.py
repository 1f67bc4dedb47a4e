"""Results as files and pictures: averages by hand, JSON without NaN, pictures that come out the same every time."""

import csv
import json
import math

import numpy as np
import pytest
import torch

from recipes.data.corpus import Clip, Corpus
from recipes.report.figures import Panel, encode, explanation_figure, spectrogram_figure, tradeoff_figure
from recipes.runs import facts as facts_module
from recipes.runs.cross_validation import summarize_folds
from recipes.runs.facts import (
    RunFacts,
    commit,
    device_name,
    score_table,
    write_confusion,
    write_metrics,
)
from recipes.scoring.explanation import Explanation
from recipes.scoring.table import ClipTable

NAN = math.nan


def facts(**changes) -> RunFacts:
    given = {
        "experiment": "tried",
        "data": {"name": "toy", "train_folds": [1], "valid_folds": [2], "test_folds": [3], "clips": 4},
        "seed": 1,
        "commit": "unknown",
        "config_sha256": "0",
        "device": "cpu",
        "torch": "2",
    }
    return RunFacts(**given | changes)


def filled(**columns: list[float]) -> ClipTable:
    table = ClipTable()
    index = torch.arange(len(next(iter(columns.values()))))
    table.add(index, **{name: torch.tensor(values) for name, values in columns.items()})
    return table


# clip tables


def test_a_mean_is_over_the_clips_where_the_score_is_defined():
    table = filled(acc=[1.0, 0.0, 1.0, 1.0], sps=[0.5, NAN, 0.25, NAN], comp=[NAN] * 4, probability=[0.1] * 4)
    found = table.averages()
    assert math.isnan(found.pop("comp"))
    assert found == {"acc": 0.75, "sps": 0.375, "sps_undefined": 2, "comp_undefined": 4}
    assert math.isnan(table.mean("comp"))


def test_batches_are_gathered_and_uneven_ones_refused():
    table = ClipTable()
    table.add(torch.tensor([4, 2]), acc=torch.tensor([1.0, 0.0]))
    table.add(torch.tensor([7]), acc=torch.tensor([1.0]))
    assert (table.index, table.columns) == ([4, 2, 7], {"acc": [1.0, 0.0, 1.0]})
    with pytest.raises(ValueError, match=r"columns \['fa'\] do not match \['acc'\]"):
        table.add(torch.tensor([1]), fa=torch.tensor([1.0]))
    with pytest.raises(ValueError, match=r"column acc has shape \(2,\), not \(1,\)"):
        table.add(torch.tensor([1]), acc=torch.tensor([1.0, 2.0]))


@pytest.fixture
def corpus(tmp_path) -> Corpus:
    names = ("bark, loud", "siren")
    clips = [Clip(f"c{k}", tmp_path / f"c{k}.wav", 1, (k % 2,), (names[k % 2],), f"c{k}") for k in range(3)]
    return Corpus("toy", tuple(clips), names)


def test_clips_csv_names_clips_and_classes(corpus, tmp_path):
    table = ClipTable()
    table.add(
        torch.tensor([2, 1]),
        label=torch.tensor([0, 1]),
        prediction=torch.tensor([0, 0]),
        probability=torch.tensor([0.75, 1 / 3]),
        sps=torch.tensor([0.5, NAN]),
    )
    table.write(tmp_path / "clips.csv", corpus)
    with (tmp_path / "clips.csv").open(newline="") as file:
        assert list(csv.reader(file)) == [
            ["id", "label", "prediction", "probability", "sps"],
            ["c2", "bark, loud", "bark, loud", "0.75", "0.5"],
            ["c1", "siren", "bark, loud", "0.333333", "nan"],
        ]


def test_a_confusion_matrix_counts_true_classes_by_row(tmp_path):
    table = filled(label=[0, 0, 0, 1, 2, 2], prediction=[0, 1, 1, 1, 0, 2])
    write_confusion(tmp_path, table, ("a", "b", "c"))
    assert (tmp_path / "confusion.csv").read_text().splitlines() == [
        "true \\ predicted,a,b,c",
        "a,1,2,0",
        "b,0,1,0",
        "c,1,0,1",
    ]


# metrics.json


def test_what_is_not_a_number_becomes_null(tmp_path):
    sweep = [{"quantile": 0.5, "fa": math.inf}]
    write_metrics(tmp_path / "metrics.json", facts(), {"acc": 0.5, "sps": NAN, "sps_undefined": 4}, 1.26, sweep)
    text = (tmp_path / "metrics.json").read_text()
    assert "NaN" not in text
    assert "Infinity" not in text
    found = json.loads(text)
    assert found["metrics"] == {"acc": 0.5, "sps": None, "sps_undefined": 4}
    assert found["sweep"] == [{"quantile": 0.5, "fa": None}]
    assert (found["seconds"], found["interpreter"], found["training"]) == (1.3, None, {})


def test_a_run_without_a_sweep_has_none(tmp_path):
    write_metrics(tmp_path / "metrics.json", facts(), {"acc": 0.5}, 1.0)
    assert "sweep" not in json.loads((tmp_path / "metrics.json").read_text())


def test_folds_are_summed_up_by_mean_and_sample_deviation(tmp_path):
    for k, (acc, sps) in enumerate([(0.5, 0.1), (0.7, NAN), (0.9, 0.3)], start=1):
        one = facts(data=facts().data | {"test_folds": [k], "clips": 10 * k, "contamination": "clean"})
        one.training.update(epoch=k, epochs=3)
        rows = [{"quantile": q, "fa": acc * q, "sps": sps} for q in (0.1, 0.9)]
        write_metrics(tmp_path / f"fold{k}/metrics.json", one, {"acc": acc, "sps": sps}, float(k), rows)
    assert summarize_folds([tmp_path / f"fold{k}" for k in (1, 2, 3)], tmp_path) == tmp_path
    found = json.loads((tmp_path / "metrics.json").read_text())
    assert found["metrics"] == {"acc": pytest.approx(0.7)}
    # sample standard deviation: sqrt((0.04 + 0 + 0.04) / 2)
    assert found["spread"] == {"acc": pytest.approx(0.2)}
    assert found["folds"] == {"acc": [0.5, 0.7, 0.9]}
    assert found["sweep"] == [
        {"quantile": 0.1, "fa": pytest.approx(0.07)},
        {"quantile": 0.9, "fa": pytest.approx(0.63)},
    ]
    assert found["data"] == {
        "name": "toy",
        "protocol": "3-fold cross-validation",
        "test_folds": [[1], [2], [3]],
        "clips": 60,
        "contamination": "clean",
    }
    assert found["seconds"] == pytest.approx(6)
    assert found["training"] == {"epochs": 3}


def test_what_a_bundle_keeps_is_a_part_of_the_facts():
    assert facts().source().keys() == {"experiment", "seed", "commit", "data", "classifier", "training"}


def test_outside_a_checkout_the_commit_is_unknown(tmp_path, monkeypatch):
    assert commit() != ""
    monkeypatch.setattr(facts_module, "__file__", str(tmp_path / "recipes/facts.py"))
    assert commit() == "unknown"


def test_a_cpu_is_told_with_its_threads():
    assert device_name("cpu") == f"cpu, {torch.get_num_threads()} threads"


# pictures


def panel(title: str = "one", mask: bool = False) -> Panel:
    values = np.random.default_rng(0).random((20, 33)).astype(np.float32)
    return Panel(title, values, 1.0, values if mask else None)


def test_panels_share_one_colour_scale_and_tell_seconds_and_kilohertz():
    figure = spectrogram_figure([panel("a"), Panel("b", 3 * panel().log_magnitude, 2.0)], 16000)
    images = [axes.images[0] for axes in figure.axes]
    assert [axes.get_title() for axes in figure.axes] == ["a", "b"]
    assert [image.get_extent() for image in images] == [[0, 1.0, 0, 8], [0, 2.0, 0, 8]]
    assert images[0].get_clim() == images[1].get_clim() == (0, pytest.approx(3 * panel().log_magnitude.max()))
    assert figure.axes[0].get_ylabel() == "frequency [kHz]"


def test_a_mask_is_outlined_only_where_it_has_an_edge():
    full = Panel("all", panel().log_magnitude, 1.0, np.ones((20, 33)))
    figure = spectrogram_figure([panel(mask=True), full, panel()], 16000)
    assert [len(axes.collections) for axes in figure.axes] == [1, 0, 0]


def test_silence_can_be_drawn():
    silent = Panel("silence", np.zeros((20, 33)), 1.0, np.zeros((20, 33)))
    assert spectrogram_figure([silent], 16000).axes[0].images[0].get_clim() == (0, pytest.approx(1e-3))


def test_an_explanation_is_drawn_as_input_relevant_and_residual():
    magnitude, mask = panel().log_magnitude, np.zeros((20, 33), dtype=np.float32)
    mask[:10] = 1
    one = np.ones((1, 2)) / 2
    explanation = Explanation(
        *np.zeros((3, 8000)), magnitude, mask, mask, one, one, one, 1.0, np.array([8000]), np.array([0])
    )
    drawn = [axes.images[0].get_array().T for axes in explanation_figure(explanation, 16000).axes]
    assert np.allclose(drawn[0], magnitude)
    assert np.allclose(drawn[1] + drawn[2], magnitude)
    assert drawn[1][10:].max() == drawn[2][:10].max() == 0


def test_the_trade_off_is_drawn_in_the_order_of_quantiles():
    sweep = [{"quantile": q, "fid_i": 1 - q, "fa": q / 2} for q in (0.9, 0.1, 0.5)]
    left, right = tradeoff_figure(sweep, "title").axes
    assert list(left.lines[0].get_xdata()) == [0.1, 0.5, 0.9]
    assert left.lines[0].get_ydata() == pytest.approx([0.9, 0.5, 0.1])
    assert right.lines[0].get_ydata() == pytest.approx([0.05, 0.25, 0.45])


def test_a_picture_is_the_same_file_every_time():
    for kind, start in (("svg", b"<?xml"), ("png", b"\x89PNG"), ("pdf", b"%PDF")):
        once, again = (encode(tradeoff_figure([{"quantile": 0.5, "fid_i": 1, "fa": 0}], "t"), kind) for _ in range(2))
        assert once.startswith(start)
        assert once == again


def test_score_table_aligns_settings_and_scores():
    rows = [{"quantile": 0.5, "acc": 0.25, "fid_i": 1.0}, {"quantile": 0.95, "acc": 0.25, "fid_i": 0.12345}]
    assert score_table(rows).splitlines() == [
        "quantile   acc   fid_i",
        "     0.5  0.25       1",
        "    0.95  0.25  0.1235",
    ]
