"""Asking about sounds from the shell: any class, many files, several answers side by side, nothing lost."""

import csv
import errno
import json
import re
from pathlib import Path

import numpy as np
import pytest
import soundfile
from recipe_files import HPARAMS

from models.bundle import read_facts
from models.errors import UsageError
from recipes.config.recipe import load_recipe
from recipes.data.sound_files import find_sounds
from recipes.inference import SoundInterpreter
from recipes.interpretation import explain_audio

GRADIENT, MODULATION = HPARAMS / "gradient.yaml", HPARAMS / "modulation.yaml"


def noise(seed: int, seconds: float = 1.0) -> np.ndarray:
    return 0.2 * np.random.default_rng(seed).standard_normal(round(16000 * seconds)).clip(-3, 3)


def answer(folder: Path) -> dict:
    return json.loads((folder / "explanation.json").read_text())


@pytest.fixture(scope="module")
def focalnet(bundle) -> str:
    return f"--classifier={bundle('focalnet')}"


@pytest.fixture(scope="module")
def names(bundle) -> tuple[str, ...]:
    return read_facts(bundle("focalnet"), "classifier").class_names


@pytest.fixture
def recordings(tmp_path) -> Path:
    """Two folders with a file of one name each, one file more, and one that is no sound."""
    folder = tmp_path / "recordings"
    for name, seed in (("a/rec.flac", 1), ("b/rec.flac", 2), ("b/call.wav", 3)):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(folder / name, noise(seed), 16000)
    (folder / "b/broken.wav").write_bytes(b"no sound")
    (folder / "b/notes.txt").write_text("left out")
    return folder


def test_files_of_one_name_get_folders_of_their_own(interpret, focalnet, recordings, tmp_path):
    arguments = (MODULATION, tmp_path / "out", focalnet)
    first = interpret(*arguments, f"--audio={recordings / 'a/rec.flac'}")
    second = interpret(*arguments, f"--audio={recordings / 'b/rec.flac'}")
    assert first.name == "rec"
    assert re.fullmatch(r"rec-[0-9a-f]{8}", second.name)
    assert answer(first)["question"]["source"] == str(recordings / "a/rec.flac")
    assert interpret(*arguments, f"--audio={recordings / 'a/rec.flac'}") == first
    assert interpret(*arguments, f"--audio={recordings / 'b/rec.flac'}") == second
    other_setting = interpret(*arguments, f"--audio={recordings / 'a/rec.flac'}", "--quantile=0.5")
    assert other_setting not in (first, second)
    assert answer(first)["kept"] == pytest.approx(0.1, abs=0.03)
    assert answer(other_setting)["kept"] == pytest.approx(0.5, abs=0.03)


def test_a_class_is_asked_for_by_name_or_index(interpret, focalnet, names, sound_file, tmp_path, capsys):
    path = sound_file("heard.wav", noise(4, 2.5))
    predicted = answer(interpret(GRADIENT, tmp_path / "out", focalnet, f"--audio={path}"))
    asked = next(name for name in names if name != predicted["prediction"])
    by_name = interpret(GRADIENT, tmp_path / "out", focalnet, f"--audio={path}", f"--target={asked}")
    by_index = interpret(GRADIENT, tmp_path / "out", focalnet, f"--audio={path}", f"--target={names.index(asked)}")
    assert by_name == by_index
    assert by_name.name == f"heard_{asked}"
    told = answer(by_name)
    assert (told["prediction"], told["target"]) == (predicted["prediction"], asked)
    assert {window["target"] for window in told["windows"]} == {asked}
    assert predicted["target"] == predicted["prediction"]
    assert {window["target"] for window in predicted["windows"]} == {predicted["prediction"]}
    assert told["top"] == predicted["top"]
    assert asked in [one["name"] for one in told["classes"]]
    assert f"{asked} (explained): " in capsys.readouterr().out


def test_classes_of_a_tenth_or_more_are_listed_with_what_the_parts_do(interpret, focalnet, sound_file, tmp_path):
    path = sound_file("heard.wav", noise(5))
    folder = interpret(GRADIENT, tmp_path / "out", focalnet, f"--audio={path}")
    told = answer(folder)
    (window,) = told["windows"]
    shares = [one["input"] for one in told["classes"]]
    assert shares == sorted(shares, reverse=True)
    notable = {name for name, share in window["input"].items() if share >= 0.1}
    assert notable <= {one["name"] for one in told["classes"]}
    first = told["classes"][0]
    assert window["input"][first["name"]] == pytest.approx(first["input"])
    heard = SoundInterpreter.from_hparams(folder.parents[1]).interpret_file(path)
    assert heard.relevant_probability == pytest.approx(first["relevant"], abs=1e-5)
    assert heard.residual_probability == pytest.approx(first["residual"], abs=1e-5)


def test_an_unknown_class_is_refused_with_the_nearest(interpret, focalnet, names, sound_file, tmp_path):
    path = sound_file("heard.wav", noise(6))
    with pytest.raises(UsageError, match=rf"target='{names[0][:-1]}' is no class .* did you mean {names[0]}"):
        interpret(GRADIENT, tmp_path, focalnet, f"--audio={path}", f"--target={names[0][:-1]}")
    with pytest.raises(UsageError, match="target='10' is no class of this classifier, nor an index from 0 to 9"):
        interpret(GRADIENT, tmp_path, focalnet, f"--audio={path}", "--target=10")


def test_a_method_that_knows_the_predicted_class_only_says_so(interpret, focalnet, names, sound_file, tmp_path):
    path = sound_file("heard.wav", noise(7))
    predicted = answer(interpret(MODULATION, tmp_path, focalnet, f"--audio={path}"))["prediction"]
    other = next(name for name in names if name != predicted)
    with pytest.raises(UsageError, match="predicted"):
        interpret(MODULATION, tmp_path, focalnet, f"--audio={path}", f"--target={other}")


def test_a_sound_of_one_sample_is_explained(interpret, focalnet, sound_file, tmp_path):
    """It is a single frame, around which no outline is drawn."""
    folder = interpret(MODULATION, tmp_path / "out", focalnet, f"--audio={sound_file('one.wav', np.array([0.5]))}")
    assert (folder / "explanation.png").is_file()
    assert soundfile.info(folder / "input.wav").frames == 1


def test_a_folder_is_explained_and_a_broken_file_is_named_and_skipped(interpret, focalnet, names, recordings, tmp_path):
    with pytest.raises(UsageError, match=r"1 of 4 sounds are not explained: .*broken\.wav cannot be decoded"):
        interpret(MODULATION, tmp_path / "out", focalnet, f"--audio={recordings}")
    audio = tmp_path / "out/modulation/1234/audio"
    rows = list(csv.DictReader((audio / "sounds.csv").open(newline="")))
    assert [row["file"] for row in rows] == [
        str(recordings / name) for name in ("a/rec.flac", "b/call.wav", "b/rec.flac")
    ]
    page = (audio / "index.html").read_text()
    for row in rows:
        told = answer(audio / row["folder"])
        assert row["prediction"] == told["prediction"] in names
        assert float(row["probability"]) == pytest.approx(told["top"][row["prediction"]], abs=1e-5)
        assert sum(float(row[f"p({name})"]) for name in names) == pytest.approx(1, abs=1e-4)
        assert float(row["fa"]) == pytest.approx(
            float(row["target_probability"]) - float(row["residual_probability"]), abs=1e-5
        )
        assert f'href="{row["folder"]}/report.html"' in page


def test_later_sounds_join_the_table_of_earlier_ones(interpret, focalnet, recordings, tmp_path):
    for name in ("a/rec.flac", "b/call.wav", "a/rec.flac"):
        interpret(MODULATION, tmp_path / "out", focalnet, f"--audio={recordings / name}")
    with (tmp_path / "out/modulation/1234/audio/sounds.csv").open(newline="") as file:
        assert [row["folder"] for row in csv.DictReader(file)] == ["call", "rec"], "the newest answer last, and once"


def test_sounds_are_found_by_folder_pattern_and_list(recordings, tmp_path):
    a, b, call, broken = (recordings / name for name in ("a/rec.flac", "b/rec.flac", "b/call.wav", "b/broken.wav"))
    assert find_sounds(recordings) == [a, broken, call, b]
    assert find_sounds(str(recordings / "*/rec.flac")) == [a, b]
    assert find_sounds([b, a, b]) == [b, a]
    odd = tmp_path / "[1] take*.wav"
    odd.write_bytes(b"")
    assert find_sounds(str(odd)) == [odd]
    for wrong, sentence in (
        (recordings / "gone.wav", "does not exist or is not a file"),
        (str(recordings / "x*.wav"), "no file matches the pattern"),
        (recordings / "b/notes.txt/", "cannot"),
    )[:2]:
        with pytest.raises(UsageError, match=sentence):
            find_sounds([a, wrong])


def test_masks_are_left_on_request_with_their_axes(interpret, focalnet, sound_file, tmp_path):
    path = sound_file("heard.wav", noise(8, 1.5))
    folder = interpret(MODULATION, tmp_path / "out", focalnet, f"--audio={path}", "--masks")
    with np.load(folder / "masks.npz") as masks:
        frames = 24000 // 186 + 1
        assert masks["mask"].shape == (frames, 513)
        assert masks["mask"].mean(dtype=float) == pytest.approx(answer(folder)["kept"], abs=1e-3)
        assert masks["times"][[0, 1, -1]] == pytest.approx([0, 186 / 16000, 186 * (frames - 1) / 16000])
        assert masks["frequencies"][[0, -1]].tolist() == [0, 8000]
        assert str(masks["target"]) == answer(folder)["target"]
    interpret(MODULATION, tmp_path / "out", focalnet, f"--audio={path}")
    assert not (folder / "masks.npz").exists()


def test_a_long_sound_has_pages_and_whole_sounds(interpret, focalnet, sound_file, tmp_path, monkeypatch):
    monkeypatch.setattr("recipes.report.sound_report.CARD_SECONDS", 2.0)
    path = sound_file("long.wav", noise(9, 5.25))
    folder = interpret(MODULATION, tmp_path / "out", focalnet, f"--audio={path}")
    pages = [(folder / name).read_text() for name in ("report.html", "report_2.html", "report_3.html")]
    assert not (folder / "report_4.html").exists()
    for number, (page, title) in enumerate(zip(pages, ("0:00 to 0:02", "0:02 to 0:04", "0:04 to 0:05"), strict=True)):
        assert f"<h1>long.wav, {title}</h1>" in page
        assert '<a href="report_2.html">2</a>' in page, number
        assert "data:audio/mpeg" in page and "data:audio/flac" not in page
    whole = {part: soundfile.read(folder / f"{part}.wav")[0] for part in ("input", "relevant", "residual")}
    assert len(whole["input"]) == 84000
    unclipped = np.abs(whole["relevant"]) + np.abs(whole["residual"]) < 0.99
    assert unclipped.mean() > 0.99
    total = whole["relevant"] + whole["residual"]
    assert total[unclipped] == pytest.approx(whole["input"][unclipped], abs=1e-4)
    assert not list(folder.glob(".staged-*"))


def test_what_deceives_is_told_with_the_files_name(interpret, focalnet, sound_file, tmp_path, caplog):
    tone = 0.4 * np.sin(2 * np.pi * 440 * np.arange(16000) / 16000)
    path = sound_file("opposite.wav", np.stack([tone, -tone], axis=1))
    folder = interpret(MODULATION, tmp_path / "out", focalnet, f"--audio={path}")
    clause = "its channels cancel each other altogether when mixed to one: give one of them"
    assert f"{path}: {clause}." in caplog.messages
    assert answer(folder)["faults"] == [clause]
    assert clause in (folder / "report.html").read_text()


def test_several_methods_explain_one_sound(arguments, focalnet, sound_file, tmp_path, capsys):
    path = sound_file("heard.wav", noise(10))
    lines = [arguments(recipe, tmp_path, focalnet, f"--audio={path}") for recipe in (GRADIENT, MODULATION)]
    folder = explain_audio([load_recipe(line) for line in lines])
    assert folder == tmp_path / "gradient/1234/audio/heard"
    gradient, modulation = answer(folder), answer(tmp_path / "modulation/1234/audio/heard")
    assert gradient["top"] == modulation["top"]
    assert (gradient["method"], modulation["method"]) == ("gradient", "modulation")
    assert gradient["classes"] != modulation["classes"]
    printed = capsys.readouterr().out
    assert "heard.wav by gradient: " in printed and "heard.wav by modulation: " in printed
    told = re.findall("^  ([✓◐◑✗]) (.*): (.*)$", printed, flags=re.M)
    shown = []
    for name in ("gradient", "modulation"):
        card = (tmp_path / f"{name}/1234/audio/heard/report.html").read_text()
        pattern = r'<p class="verdict \w+" title="(.*?)"><span aria-hidden="true">(.)</span> (.*?)</p>'
        rule, symbol, label = re.findall(pattern, card)[0]
        shown.append((symbol, label, rule))
    assert told == shown
    page = (tmp_path / "gradient/1234/audio/side_by_side.html").read_text()
    assert re.findall("<h4>([^<]*)</h4>", page) == ["gradient", "modulation", "loudest bins (control)"]


def test_a_method_that_cannot_answer_leaves_the_answers_of_the_rest(arguments, focalnet, names, recordings, tmp_path):
    call = recordings / "b/call.wav"
    known = answer(explain_audio([load_recipe(arguments(MODULATION, tmp_path / "first", focalnet, f"--audio={call}"))]))
    other = next(name for name in names if name != known["prediction"])
    question = (f"--audio={call}", f"--target={other}")
    lines = [arguments(recipe, tmp_path, focalnet, *question) for recipe in (MODULATION, GRADIENT)]
    with pytest.raises(UsageError, match="predicted"):
        explain_audio([load_recipe(line) for line in lines])
    assert answer(tmp_path / f"gradient/1234/audio/call_{other}")["target"] == other


def test_other_settings_than_the_runs_are_told(interpret, focalnet, sound_file, tmp_path, caplog):
    call = (GRADIENT, tmp_path / "out", focalnet, f"--audio={sound_file('heard.wav', noise(13))}")
    interpret(*call, "--quantile=0.6")
    interpret(*call, "--quantile=0.6")
    assert "other settings" not in caplog.text
    interpret(*call)
    run = tmp_path / "out/gradient/1234"
    assert (
        f"{run} keeps this method with other settings (interpreter.quantile: 0.6 -> 0.9): Python loads" in caplog.text
    )


def test_a_full_disk_is_told_and_what_it_cut_short_is_made_up_for(
    interpret, focalnet, sound_file, tmp_path, monkeypatch
):
    """The classifier's bundle comes first: an interpreter's that lay there alone would be taken for both."""

    def full(source: str, target: str) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("recipes.runs.subject.os.link", full)
    monkeypatch.setattr("recipes.runs.subject.shutil.copy2", full)
    call = (GRADIENT, tmp_path / "out", focalnet, f"--audio={sound_file('heard.wav', noise(12))}")
    with pytest.raises(UsageError, match=r"cannot be written \(No space left on device\): make room there"):
        interpret(*call)
    monkeypatch.undo()
    run = interpret(*call).parents[1]
    assert sorted(path.parent.name for path in run.glob("*/bundle.json")) == ["classifier", "interpreter"]


def test_python_loads_a_method_after_a_single_file_alone(interpret, focalnet, sound_file, tmp_path):
    path = sound_file("heard.wav", noise(11))
    folder = interpret(GRADIENT, tmp_path / "out", focalnet, f"--audio={path}", "--quantile=0.6")
    interpreter = SoundInterpreter.from_hparams(folder.parents[1])
    assert interpreter.interpreter.quantiles == (0.6,)
    assert interpreter.interpret_file(path).mask.mean() == pytest.approx(answer(folder)["kept"], abs=1e-5)


@pytest.mark.parametrize(("flag", "sentence"), [("--target=dog", "target='dog' is a question"), ("--masks", "--masks")])
def test_a_question_without_a_sound_is_refused(interpret, focalnet, tmp_path, flag, sentence):
    with pytest.raises(UsageError, match=rf"{sentence} .*: pass --audio=path/to/a/sound too"):
        interpret(MODULATION, tmp_path, focalnet, flag)
