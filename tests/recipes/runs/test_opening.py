"""What a run points at is part of the run: nothing goes on, and nothing is replaced, that is of something else."""

import csv
import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from recipe_files import HPARAMS, TINY
from safetensors.torch import load_file
from tones import LMAC, LMAC_SMALL, NAMES, RATE, SMALL, Tones, files, make_tones, other_classifier, read

from interpreters.maps import QuantileMap
from recipes.runs.methods import load_methods
from recipes.runs.results import result_folders
from tests.helpers import refusal

# training goes on with the same content only


def test_other_clips_under_the_same_path_are_refused_by_name(mine, again):
    tones, output = mine
    before = files(output)
    soundfile.write(tones.folder / "audio/1-low-0.wav", np.zeros(RATE // 2) + 0.1, RATE)
    row = next(row for row in tones.rows() if row["filename"] == "1-low-1.wav")
    shutil.copyfile(tones.folder / "audio/1-low-1.wav", tones.folder / "audio/1-low-2.wav")
    tones.rewrite([*tones.rows(), row | {"filename": "1-low-2.wav"}])
    told = refusal(again)
    assert told.startswith(f"{output / 'tiny/7'} holds checkpoints of another configuration (train clips: 18 -> 19")
    assert "19 (1 new: 1-low-2); content of 1 train clips (1-low-0): " in told
    assert told.endswith("give this one another --experiment or --seed, or remove that folder")
    assert files(output) == before


def test_other_labels_and_parts_are_refused(mine, again):
    tones, _ = mine
    rows = tones.rows()
    mid = {"target": "1", "category": "mid"}
    tones.rewrite([row | (mid if row["filename"] == "4-low-0.wav" else {}) for row in rows])
    assert "labels of 1 valid clips: 4-low-0 was low -> mid" in refusal(again)
    tones.rewrite([row | ({"fold": "4"} if row["filename"] == "5-low-0.wav" else {}) for row in rows])
    told = refusal(again)
    assert "valid clips: 6 -> 7 (1 new: 5-low-0); test clips: 6 -> 5 (1 gone: 5-low-0)" in told


def test_classes_numbered_otherwise_are_no_reason_to_exchange_their_names(mine, again):
    tones, output = mine
    tones.renumber()
    assert "(classes: low, mid, high -> high, mid, low)" in refusal(again)
    assert read(output / "tiny/7/classifier/bundle.json")["class_names"] == list(NAMES)


def test_the_same_clips_in_another_order_would_train_in_another_order(mine, again):
    tones, _ = mine
    tones.rewrite(tones.rows()[::-1])
    assert "(train clips: in another order)" in refusal(again)


def test_a_folder_that_moved_is_the_same_by_its_content(mine, again, tmp_path):
    tones, output = mine
    weights = (output / "tiny/7/classifier/weights.safetensors").read_bytes()
    tones.folder.rename(tmp_path / "elsewhere")
    again(f"--data_folder={tmp_path / 'elsewhere'}")
    assert (output / "tiny/7/classifier/weights.safetensors").read_bytes() == weights


def test_other_test_clips_alone_are_refused_with_the_way_to_test_on_them(mine, again):
    tones, _ = mine
    tones.rewrite(tones.rows()[:-1])
    told = refusal(again)
    assert "(test clips: 6 -> 5 (1 gone: 5-high-1))" in told
    assert told.endswith("; to test on these clips what was trained, pass --test_only")


def test_a_trained_classifier_without_its_recipe_is_not_replaced(mine, again):
    _, output = mine
    shutil.rmtree(output / "tiny/7/save")
    (output / "tiny/7/hyperparams.yaml").unlink()
    assert "holds results but no hyperparams.yaml that says of which configuration" in refusal(again)


def test_a_trial_does_not_replace_a_run_and_a_run_may_replace_a_trial(mine, again, train, tones, tmp_path):
    _, output = mine
    before = files(output / "tiny/7/classifier")
    trial = ("--debug", "--debug_batches=1", "--debug_epochs=1")
    assert "(debug: nothing -> True; debug_batches: nothing -> 1; debug_epochs: nothing -> 1)" in refusal(again, *trial)
    assert files(output / "tiny/7/classifier") == before
    given = (TINY, tmp_path / "tried", *SMALL, f"--data_folder={tones.folder}")
    train(*given, *trial)
    run = train(*given)
    weights = [load_file(folder / "classifier/weights.safetensors") for folder in (output / "tiny/7", run)]
    assert all(torch.equal(value, weights[1][name]) for name, value in weights[0].items())


# more epochs


def constant(folder: Path) -> Path:
    """The tiny recipe with a rate that knows no epochs."""
    text = TINY.read_text()
    start = text.index("schedule:")
    end = text.index("augmentation:")
    cyclic = (
        "schedule: !name:recipes.training.schedules.Cyclic\n    base_lr: !ref <peak_lr>\n    max_lr: !ref <peak_lr>\n"
        "    step_size: 1000\n\n"
    )
    text = (text[:start] + cyclic + text[end:]).replace("../../hparams", str(HPARAMS))
    (folder / "tiny.yaml").write_text(text)
    return folder / "tiny.yaml"


def test_more_epochs_at_a_constant_rate_end_as_if_asked_for_at_once(train, tones, tmp_path):
    recipe, data = constant(tmp_path), f"--data_folder={tones.folder}"
    whole = train(recipe, tmp_path / "whole", *SMALL, data, "--epochs=2")
    train(recipe, tmp_path / "longer", *SMALL, data)
    longer = train(recipe, tmp_path / "longer", *SMALL, data, "--epochs=2")
    weights = [load_file(run / "classifier/weights.safetensors") for run in (whole, longer)]
    assert all(torch.equal(value, weights[1][name]) for name, value in weights[0].items())
    assert read(longer / "metrics.json")["training"]["longer"] == ["epochs: 1 -> 2"]
    assert "longer" not in read(whole / "metrics.json")["training"]


def test_a_stretched_schedule_is_said_and_kept(again, mine, capsys):
    run = again("--epochs=2")
    told = "going on with schedule.epochs: 1 -> 2; what was trained so far followed the shorter schedule"
    assert told in capsys.readouterr().out
    kept = read(run / "classifier/bundle.json")["source"]["training"]["longer"]
    assert kept == ["epochs: 1 -> 2", "schedule.epochs: 1 -> 2"]
    assert [line.split(",")[0] for line in (run / "train_log.txt").read_text().splitlines()] == ["epoch: 1", "epoch: 2"]
    assert again("--epochs=2") == run
    assert read(run / "metrics.json")["training"]["longer"] == kept
    assert "(epochs: 2 -> 1)" in refusal(again)


# testing


def test_testing_takes_classes_by_name_and_leaves_the_bundle(mine, again, train, tmp_path):
    tones, output = mine
    run = output / "tiny/7"
    before = files(run)
    tones.renumber()
    assert again("--test_only") == run
    after = files(run)
    assert read(run / "metrics.json")["metrics"] == json.loads(before[run / "metrics.json"])["metrics"]
    assert after[run / "clips.csv"] == before[run / "clips.csv"]
    for name in ("classifier/bundle.json", "classifier/weights.safetensors", "hyperparams.yaml", "manifest.csv"):
        assert after[run / name] == before[run / name]


def test_scores_of_other_clips_go_beside_those_of_the_runs_own(mine, again, tmp_path):
    _, output = mine
    run, other = output / "tiny/7", make_tones(tmp_path / "other", seed=5)
    other.renumber()
    before = files(run)
    folder = again("--test_only", f"--data_folder={other.folder}")
    assert folder.parent == run and folder.name.startswith("on_tones_")
    assert {path: files(run)[path] for path in before} == before
    assert len(read(folder / "metrics.json")["data"]["content"]) == 32
    with (folder / "clips.csv").open() as file:
        assert {row["label"] for row in csv.DictReader(file)} == set(NAMES)
    assert again() == run  # the run itself goes on as it was


def test_scores_in_another_precision_go_beside_those_of_the_runs_own(mine, again):
    _, output = mine
    run = output / "tiny/7"
    before = files(run)
    told = refusal(again, "--eval_precision=bf16")
    assert told == (
        f"{run / 'metrics.json'} holds scores of another configuration (eval_precision: fp32 -> bf16); pass "
        "--test_only too for scores beside them, or remove that file to replace them"
    )
    folder = again("--test_only", "--eval_precision=bf16")
    assert folder == run / "in_bf16"
    after = files(run)
    assert {path: after[path] for path in before} == before
    assert read(folder / "metrics.json")["metrics"].keys() == read(run / "metrics.json")["metrics"].keys()
    assert again("--test_only", "--eval_precision=bf16") == folder  # the same again
    assert again("--test_only") == run


def test_scores_in_another_precision_and_on_other_clips_have_a_folder_of_their_own(again, tmp_path):
    other = f"--data_folder={make_tones(tmp_path / 'other', seed=5).folder}"
    own = again("--test_only", other)
    in_bf16 = again("--test_only", other, "--eval_precision=bf16")
    assert in_bf16.name == f"{own.name}_in_bf16"
    told = refusal(again, "--test_only", other, "--debug")
    assert f"{own / 'metrics.json'} holds scores of another configuration (debug: nothing -> True)" in told


def test_scores_on_clips_that_were_labelled_otherwise_are_not_replaced(mine, again):
    tones, _ = mine
    rows = tones.rows()
    mid = {"target": "1", "category": "mid"}
    tones.rewrite([row | (mid if row["filename"] == "5-low-0.wav" else {}) for row in rows])
    folder = again("--test_only")
    tones.rewrite([row | (mid if row["filename"] == "5-low-1.wav" else {}) for row in rows])
    told = refusal(again, "--test_only")
    assert told == (
        f"{folder} holds scores of other clips (labels of 2 test clips: 5-low-0 was mid -> low); remove it to replace "
        "them"
    )


def test_scores_beside_a_run_are_not_its_own_results(interpret, explained, tones, trained, tmp_path):
    shutil.copytree(explained, tmp_path / "out/lmac/1234")
    given = (f"--data_folder={tones.folder}", f"--classifier={trained / 'classifier'}", *LMAC_SMALL, "--test_only")
    folder = interpret(LMAC, tmp_path / "out", *given, "--eval_precision=bf16", "--contamination=[clean,white]")
    run = tmp_path / "out/lmac/1234"
    assert folder == run / "in_bf16"
    assert (folder / "white/metrics.json").is_file()
    assert list(result_folders(run)) == [run]
    assert list(result_folders(folder)) == [folder, folder / "white"]
    assert [method.name for method in load_methods([folder])] == ["lmac", "lmac"]


def test_a_class_that_the_classifier_does_not_know_is_named(mine, again):
    tones, _ = mine
    tones.rewrite([row | {"category": row["category"].replace("mid", "middle")} for row in tones.rows()])
    told = refusal(again, "--test_only")
    assert "tones lacks mid and tones has middle besides" in told


# what an interpreter's run reads


def lmac(interpret, explained: Path, tones: Tones, classifier: Path, tmp_path: Path) -> Callable[..., str]:
    """(*changes) -> the sentence that refuses the interpreter's run once more."""
    shutil.copytree(explained, tmp_path / "out/lmac/1234")
    given = (f"--data_folder={tones.folder}", f"--classifier={classifier}", *LMAC_SMALL)
    return lambda *changes: refusal(interpret, LMAC, tmp_path / "out", *given, *changes)


def test_another_classifier_under_the_same_path_is_refused(interpret, explained, tones, trained, tmp_path):
    other = other_classifier(trained, tmp_path / "classifier")
    again = lmac(interpret, explained, tones, other, tmp_path)
    before = files(tmp_path / "out/lmac/1234/interpreter")
    told = again()
    assert "holds checkpoints of another configuration (classifier: " in told
    assert "was trained for another classifier than" in again("--test_only")
    assert files(tmp_path / "out/lmac/1234/interpreter") == before


def test_noise_that_changed_under_the_same_path_is_refused(interpret, tones, trained, tmp_path):
    noise = tmp_path / "noise"
    noise.mkdir()
    sound = np.random.default_rng(0).standard_normal(3 * RATE) / 10
    for name in ("a", "b", "c", "d", "e"):
        soundfile.write(noise / f"{name}.wav", sound, RATE)
    given = (f"--data_folder={tones.folder}", f"--classifier={trained / 'classifier'}", *LMAC_SMALL)
    given += ("--train_noise=noise", f"--noise_folder={noise}", "--debug", "--debug_batches=1", "--debug_epochs=1")
    interpret(LMAC, tmp_path / "out", *given)
    soundfile.write(noise / "a.wav", sound / 2, RATE)
    assert "(noise_folder: " in refusal(interpret, LMAC, tmp_path / "out", *given)


def test_a_start_that_changed_under_the_same_path_is_refused(interpret, explained, tones, trained, tmp_path):
    start = tmp_path / "start"
    shutil.copytree(explained, start, ignore=shutil.ignore_patterns("save"))
    given = (f"--data_folder={tones.folder}", f"--classifier={trained / 'classifier'}", *LMAC_SMALL)
    given += (f"--start_from={start}", "--experiment=more")
    interpret(LMAC, tmp_path / "out", *given)
    bundle = read(start / "interpreter/bundle.json")
    bundle["sha256"]["weights.safetensors"] = "0" * 64
    (start / "interpreter/bundle.json").write_text(json.dumps(bundle))
    shutil.rmtree(tmp_path / "out/more/1234/save")  # so that the start is not read again before it is compared
    assert "holds results of another configuration (start_from: " in refusal(interpret, LMAC, tmp_path / "out", *given)


# runs of older versions


def older(tones: Tones, output: Path) -> Path:
    """The classifier's run as an older version left it, which compared the paths of data."""
    run = output / "tiny/7"
    (run / "identity.json").unlink()
    text = (run / "hyperparams.yaml").read_text()
    lines = [f"data_folder: {tones.folder}" if line.startswith("data_folder:") else line for line in text.splitlines()]
    (run / "hyperparams.yaml").write_text("\n".join(lines) + "\n")
    return run


def test_a_run_of_an_older_version_goes_on_with_a_warning(mine, again, caplog):
    run = older(*mine)
    weights = (run / "classifier/weights.safetensors").read_bytes()
    assert again() == run
    assert "was begun by an older version, which kept no hashes of its sound files" in caplog.text
    assert (run / "classifier/weights.safetensors").read_bytes() == weights
    assert (run / "identity.json").is_file()


def test_a_run_of_an_older_version_is_compared_by_what_it_kept(mine, again):
    older(*mine)
    tones, _ = mine
    tones.rewrite(tones.rows()[:-1])
    assert "(test clips: 6 -> 5 (1 gone: 5-high-1))" in refusal(again)


def test_an_interpreter_of_an_older_version_belongs_to_its_classifier(interpret, explained, tones, trained, tmp_path):
    again = lmac(interpret, explained, tones, other_classifier(trained, tmp_path / "classifier"), tmp_path)
    (tmp_path / "out/lmac/1234/identity.json").unlink()
    # an older version compares the paths, which differ here, too
    assert "classifier: " in again()


def test_a_damaged_identity_is_one_sentence(mine, again):
    _, output = mine
    (output / "tiny/7/identity.json").write_text('{"clips": 3}')
    assert "identity.json is damaged (" in refusal(again)


# nothing is replaced by accident


def test_another_setting_of_an_untrained_method_does_not_replace_its_scores(modulation):
    run = modulation("--quantile=0.5")
    before = files(run)
    told = refusal(modulation, "--quantile=0.9")
    assert told == (
        f"{run} holds results of another configuration (interpreter.quantile: 0.5 -> 0.9); give this one "
        "another --experiment or --seed, or remove that folder"
    )
    assert files(run) == before
    assert modulation("--quantile=0.5") == run  # the same again
    assert modulation("--quantile=0.9", "--experiment=more") != run


def test_a_method_that_was_asked_about_a_sound_is_scored_afterwards(modulation, tones):
    sound = f"--audio={tones.folder / 'audio/5-low-0.wav'}"
    answer = modulation(sound, "--quantile=0.5")
    before = files(answer)
    run = modulation("--quantile=0.9")
    assert read(run / "metrics.json")["interpreter"]["quantile"] == 0.9
    assert "quantile: 0.9" in (run / "interpreter/model.yaml").read_text()
    assert files(answer) == before
    assert modulation(sound, "--quantile=0.9") != answer  # another setting is another answer
    assert "(interpreter.quantile: 0.9 -> 0.5)" in refusal(modulation, "--quantile=0.5")


def test_another_contamination_goes_beside_and_another_precision_does_not_replace(modulation):
    run = modulation("--contamination=white", "--snr_db=3")
    modulation("--contamination=white", "--snr_db=6")
    assert {path.parent.name for path in run.glob("*/metrics.json")} == {"white_3dB", "white_6dB"}
    told = refusal(modulation, "--contamination=white", "--snr_db=3", "--eval_precision=bf16")
    path = run / "white_3dB/metrics.json"
    assert f"{path} holds scores of another configuration (eval_precision: fp32 -> bf16); remove that file" in told


def test_scores_on_other_noise_do_not_replace(modulation, tmp_path):
    noise = tmp_path / "noise"
    noise.mkdir()
    sound = np.random.default_rng(0).standard_normal(3 * RATE) / 10
    soundfile.write(noise / "a.wav", sound, RATE)
    changes = ("--contamination=noise", f"--noise_folder={noise}")
    modulation(*changes)
    soundfile.write(noise / "a.wav", sound[::-1].copy(), RATE)
    assert "metrics.json holds scores of another configuration (noise_folder: " in refusal(modulation, *changes)


def test_a_trial_does_not_replace_scores(interpret, explained, tones, trained, tmp_path):
    shutil.copytree(explained, tmp_path / "out/lmac/1234")
    given = (f"--data_folder={tones.folder}", f"--classifier={trained / 'classifier'}", *LMAC_SMALL, "--test_only")
    told = refusal(interpret, LMAC, tmp_path / "out", *given, "--debug")
    assert "metrics.json holds scores of another configuration (debug: nothing -> True); remove that file" in told
    assert interpret(LMAC, tmp_path / "out", *given) == tmp_path / "out/lmac/1234"


@pytest.mark.parametrize(
    ("removed", "sentence"),
    [
        (("save",), "holds results of another configuration (interpreter.sparsity: 0.4 -> 7.0)"),
        (("save", "hyperparams.yaml", "identity.json"), "which are others (interpreter.sparsity: 0.4 -> 7.0)"),
    ],
    ids=["without checkpoints", "adopted, or of an older version"],
)
def test_other_settings_than_those_that_were_trained_are_not_tested(
    interpret, explained, tones, trained, tmp_path, removed, sentence
):
    run = tmp_path / "out/lmac/1234"
    shutil.copytree(explained, run)
    shutil.rmtree(run / removed[0])
    for name in removed[1:]:
        (run / name).unlink()
    given = (f"--data_folder={tones.folder}", f"--classifier={trained / 'classifier'}", *LMAC_SMALL, "--test_only")
    assert sentence in refusal(interpret, LMAC, tmp_path / "out", *given, "--sparsity=7.0")
    interpret(LMAC, tmp_path / "out", *given)


def test_a_sound_is_explained_with_the_settings_that_were_trained(interpret, explained, tones, trained, tmp_path):
    shutil.copytree(explained, tmp_path / "out/lmac/1234")
    given = (f"--classifier={trained / 'classifier'}", f"--audio={tones.folder / 'audio/5-low-0.wav'}")
    told = refusal(interpret, LMAC, tmp_path / "out", *given, "--sparsity=7.0")
    assert "which are others (interpreter.sparsity: 0.4 -> 7.0): leave these out" in told
    assert f"--start_from={tmp_path / 'out/lmac/1234'} --epochs=0" in told
    interpret(LMAC, tmp_path / "out", *given, "--sparsity=0.4")


def test_testing_writes_no_bundle(modulation):
    run = modulation()
    before = {path: path.stat().st_mtime_ns for path in (run / "interpreter").iterdir()}
    modulation("--test_only")
    assert {path: path.stat().st_mtime_ns for path in (run / "interpreter").iterdir()} == before


def test_classes_numbered_otherwise_are_explained_by_name(modulation, mine):
    run = modulation()
    before = (run / "clips.csv").read_bytes()
    tones, _ = mine
    tones.renumber()
    assert modulation(f"--data_folder={tones.folder}") == run
    assert (run / "clips.csv").read_bytes() == before


def test_nan_in_scoring_is_one_sentence(modulation, monkeypatch):
    monkeypatch.setattr(QuantileMap, "importance", lambda *given, **options: torch.full((6, 44, 513), math.nan))
    told = refusal(modulation)
    # a comparison with NaN is false: the mask itself would be dark and finite
    assert told.startswith("importances of QuantileMap are NaN or infinite on test clips: pass --eval_precision=fp32")
