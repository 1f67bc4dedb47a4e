"""Two-clip mixtures as a corpus of several labels: made, trained on, explained class by class."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from recipe_files import HPARAMS

from interpreters.ground_truth import Truth
from models.bundle import load_bundle, save_bundle
from models.errors import UsageError
from models.labels import SEVERAL_LABELS
from recipes.classification import train_classifier
from recipes.config.recipe import load_recipe
from recipes.data.clips import ClipDataset, collate, known_sources
from recipes.data.preparation import DataSource, prepare
from recipes.interpretation import run_interpreter
from recipes.polyphony import SEPARATOR, main
from recipes.runs.subject import load_subject

RATE = 16000
EAGERNESS = 1.4  # of ten classes, two are in a clip: logits of about -1.4 before anything is learned
SMALL = ("--clip_seconds=1", "--snr_db=0", "--seed=5")


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def polyphony(corpus, tmp_path_factory) -> Path:
    """The tests' synthetic corpus, each clip mixed with another of its fold."""
    folder = tmp_path_factory.mktemp("polyphony")
    main([str(corpus), str(folder / "mixtures"), f"--cache_folder={folder / 'cache'}", *SMALL])
    return folder / "mixtures"


@pytest.fixture(scope="module")
def run_on(polyphony, tmp_path_factory):
    """(command, recipe, output, *changes) -> the folder of a run on the mixtures."""
    cache = tmp_path_factory.mktemp("cache")

    def run(command, recipe: str, output: Path, *changes: str) -> Path:
        places = (f"--data_folder={polyphony}", f"--cache_folder={cache}", f"--output_folder={output}")
        options = ("--label_separator=;", "--device=cpu", "--noprogressbar", *changes)
        return command(load_recipe([str(HPARAMS / recipe), *places, *options]))

    return run


TINY = ("--clip_seconds=1.0", "--num_classes=10", "--batch_size=10", "--epochs=1")


@pytest.fixture(scope="module")
def trained(run_on, tmp_path_factory) -> Path:
    """A run that leaves a classifier of several labels, trained for a moment."""
    return run_on(train_classifier, "demo_several.yaml", tmp_path_factory.mktemp("trained"), *TINY, "--head=linear")


@pytest.fixture(scope="module")
def eager(trained, run_on, tmp_path_factory) -> Path:
    """The same classifier, made to hear more than it would after a moment's training."""
    bundle = load_bundle(trained / "classifier", "classifier")
    with torch.no_grad():
        bundle.network.head.bias += EAGERNESS
    folder = tmp_path_factory.mktemp("eager") / "classifier"
    return save_bundle(folder, bundle.network, (bundle.path / "model.yaml").read_text(), bundle.info)


def test_each_mixture_is_the_sum_of_its_sources(corpus, polyphony):
    rows, sources = table(polyphony / "meta/polyphony.csv"), table(polyphony / "sources.csv")
    originals = {row["filename"].removesuffix(".flac"): row for row in table(corpus / "meta/synthetic.csv")}
    assert len(rows) == len(originals) and len(sources) == 2 * len(rows)
    store = prepare(DataSource(polyphony, label_separator=SEPARATOR), polyphony / "cache", RATE, 1.0)
    for number, clip in enumerate(store.corpus.clips):
        original = originals[clip.id.removesuffix("-0")]
        assert (clip.fold, clip.labels[0]) == (int(original["fold"]), original["category"])
        assert len(set(clip.labels)) == 2
        sounds = [sound for _, sound in store.sources(number)]
        # the events alone: what is left is the faint noise of both clips
        rest = store.waveform(number) - sum(sounds)
        assert np.square(rest).mean() < 0.05 * np.square(store.waveform(number)).mean()


def test_a_snr_and_draws_are_what_is_asked_for(corpus, tmp_path):
    options = ("--clip_seconds=1", f"--cache_folder={tmp_path / 'cache'}", "--draws=2", "--snr_db=6")
    main([str(corpus), str(tmp_path / "mixtures"), *options])
    rows = table(tmp_path / "mixtures/meta/polyphony.csv")
    assert len(rows) == 2 * len(table(corpus / "meta/synthetic.csv"))
    levels = []
    for row in rows:
        first, second = (soundfile.read(tmp_path / f"mixtures/sources/{k}/{row['filename']}")[0] for k in (1, 2))
        levels.append(20 * np.log10(np.linalg.norm(first) / np.linalg.norm(second)))
    # of the clips it is 6 dB, of the events in them nearly so
    assert np.median(levels) == pytest.approx(6, abs=0.3)
    with pytest.raises(UsageError, match="is there already: name a new folder"):
        main([str(corpus), str(tmp_path / "mixtures"), *options])
    with pytest.raises(UsageError, match="--draws=0 must be at least 1"):
        main([str(corpus), str(tmp_path / "others"), "--draws=0"])


def test_a_classifier_of_several_labels_has_map_and_a_row_a_class(trained):
    facts = json.loads((trained / "metrics.json").read_text())
    assert list(facts["metrics"]) == ["map", "macro_auc", "macro_f1"]
    assert 0 < facts["metrics"]["map"] <= 1
    assert "valid_map" in facts["training"]
    assert not (trained / "confusion.csv").exists()
    rows = table(trained / "clips.csv")
    labels = {row["filename"].removesuffix(".flac"): row["category"].split(SEPARATOR) for row in table(
        Path(facts_folder(trained)) / "meta/polyphony.csv")}  # fmt: skip
    seen = {}
    for row in rows:
        heard = float(row["probability"]) >= 0.5
        if row["label"] in labels[row["id"]]:
            seen.setdefault(row["id"], set()).add(row["label"])
            assert row["prediction"] == (row["label"] if heard else "")
        else:  # a false alarm stands beside all labels of its clip
            assert row["label"] == "; ".join(labels[row["id"]]) and heard and row["prediction"] not in labels[row["id"]]
    assert all(seen[clip] == set(labels[clip]) for clip in seen)
    subject = load_subject(trained / "classifier", "cpu")
    assert subject.offers.labels == SEVERAL_LABELS
    assert "test_map" in subject.info.source


def facts_folder(run: Path) -> str:
    """The data folder that a run was given."""
    from ruamel.yaml import YAML

    return YAML(typ="rt").load((run / "hyperparams.yaml").read_text())["data_folder"]


def test_every_heard_class_is_explained_and_held_against_its_own_source(eager, run_on, tmp_path):
    changes = (f"--classifier={eager}", "--report_clips=2", "--eval_batch_size=7")
    folder = run_on(run_interpreter, "grad_cam.yaml", tmp_path, *changes)
    rows = table(folder / "clips.csv")
    heard = [(row["id"], row["prediction"]) for row in rows]
    assert len(set(heard)) == len(heard) > len({clip for clip, _ in heard})  # some clips have several
    assert {row["label"] == row["prediction"] for row in rows} == {True, False}
    assert all(float(row["probability"]) >= 0.5 for row in rows)
    for row in rows:
        right = row["label"] == row["prediction"]
        assert float(row["precision"]) == right
        # a class that is not in the clip has no source
        assert (row["iou"] == "nan") is (row["ap"] == "nan") is not right
        assert row["relevant_prediction"] in (row["prediction"], "")
        assert (row["relevant_prediction"] == row["prediction"]) is (float(row["fid_i"]) == 1)
    facts = json.loads((folder / "metrics.json").read_text())
    assert facts["interpreter"]["explained_classes"] == len(rows)
    assert facts["interpreter"]["clips_without_a_class"] == facts["data"]["clips"] - len({row["id"] for row in rows})
    assert "acc" not in facts["metrics"] and "pointing" in facts["metrics"]
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert "classes heard in test clips" in page


def test_two_classes_of_one_clip_have_maps_of_their_own(trained, polyphony):
    """What is ideal for one class of a mixture is the rest for the other."""
    store = prepare(DataSource(polyphony, label_separator=SEPARATOR), polyphony / "cache", RATE, 1.0)
    frontend = load_subject(trained / "classifier", "cpu").classifier.frontend
    batch = collate([ClipDataset(store, [3])[0]])
    sources = known_sources(store, batch)[torch.tensor([0, 0])]
    first, second = store.corpus.clips[3].targets
    truth = Truth.of(frontend, sources.heard, sources.sounds, sources.labels, torch.tensor([first, second]))
    assert truth.known.tolist() == [True, True]
    assert torch.equal(truth.source, sources.sounds[0])
    assert (truth.ideal[0] & truth.ideal[1] & truth.audible[0]).float().mean() < 0.02
    absent = next(k for k in range(10) if k not in (first, second))
    assert not Truth.of(frontend, sources.heard, sources.sounds, sources.labels, torch.tensor([absent, first])).known[0]


def refusal(call, *arguments) -> str:
    with pytest.raises(UsageError) as caught:
        call(*arguments)
    assert str(caught.value).isprintable()
    return str(caught.value)


def silent(trained: Path, folder: Path) -> Path:
    """The trained classifier, made to hear nothing."""
    bundle = load_bundle(trained / "classifier", "classifier")
    with torch.no_grad():
        bundle.network.head.bias -= 100
    text = (bundle.path / "model.yaml").read_text()
    return save_bundle(folder / "silent", bundle.network, text, bundle.info)


def test_what_does_not_fit_several_labels_is_refused_in_a_sentence(trained, run_on, tmp_path):
    told = refusal(run_on, train_classifier, "cnn14_scratch.yaml", tmp_path, *TINY, "--width=0.0625")
    assert "have several labels, and the classifier gives one a clip: train one with --labels=several" in told
    mixed = (*TINY, "--train_noise=mixture")
    told = refusal(run_on, train_classifier, "demo_several.yaml", tmp_path, *mixed)
    assert "train_noise=mixture adds a class that the targets of labels=several would call absent" in told
    told = refusal(run_on, run_interpreter, "grad_cam.yaml", tmp_path, f"--classifier={silent(trained, tmp_path)}")
    assert "hears no class in any of the 20 test clips, so there is nothing to explain: train it longer" in told
    bundle = f"--classifier={trained / 'classifier'}"
    told = refusal(run_on, run_interpreter, "lmac_mobilenet.yaml", tmp_path, bundle)
    assert "LMAC explains the most probable class only" in told
    told = refusal(run_on, run_interpreter, "grad_cam.yaml", tmp_path, bundle, "--contamination=mixture")
    assert "mixes clips of one label" in told
