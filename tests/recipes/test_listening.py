"""The listening study: blind, reproducible, level-matched; ratings that add up; and a listener in a real Chromium."""

import base64
import io
import json
import re
from pathlib import Path

import browser
import numpy as np
import pytest
import soundfile

from models.errors import UsageError
from recipes.data.audio import write_wav
from recipes.listening import ANCHOR, REFERENCE, aggregate, build_study, fails_screening, main
from recipes.report.study import low_pass

RATE = 16000
CLIPS = ("clip_0", "clip_1", "clip_2", "clip_3")


def make_run(folder: Path, gain: float = 0.5, seed: int = 0, **predictions: str) -> Path:
    """A run of `CLIPS`: noise as input, the same at another level as relevant sound."""
    rng = np.random.default_rng(seed)
    told = {}
    for clip in CLIPS:
        wave = 0.3 * rng.standard_normal(RATE // 2).clip(-3, 3)
        write_wav(folder / "media" / f"{clip}_input.wav", wave, RATE)
        write_wav(folder / "media" / f"{clip}_relevant.wav", gain * wave, RATE)
        scores = {"si_sdr": 10.0 * gain, "log_kurtosis_ratio": None}
        told[clip] = {"prediction": predictions.get(clip, "</script>dog"), "scores": scores}
    (folder / "media/explanations.json").write_text(json.dumps(told))
    return folder


@pytest.fixture
def runs(tmp_path) -> list[Path]:
    """Two runs that agree on three of the four clips."""
    return [make_run(tmp_path / "method_a"), make_run(tmp_path / "method_b", 0.2, clip_3="cat")]


def content(page: bytes) -> dict:
    found = re.search(r'<script type="application/json" id="study">(.*?)</script>', page.decode(), re.DOTALL)
    return json.loads(found[1])


def decoded(uri: str) -> np.ndarray:
    return soundfile.read(io.BytesIO(base64.b64decode(uri.partition(",")[2])))[0]


# the page


def test_the_page_holds_every_condition_of_agreed_clips_and_no_name(runs):
    page, key = build_study(runs, 3, 1)
    study = content(page)
    assert study["study"] == key["study"]
    assert {trial["prediction"] for trial in study["trials"]} == {"</script>dog"}
    told = [[key["stimuli"][one["id"]] for one in trial["stimuli"]] for trial in study["trials"]]
    conditions = {REFERENCE, ANCHOR, *(run.as_posix() for run in runs)}
    assert all({one["condition"] for one in trial} == conditions and len(trial) == 4 for trial in told)
    assert {one["clip"] for trial in told for one in trial} == set(CLIPS[:3])
    readable = re.sub(r"data:[^\"]*", "", page.decode())
    assert len(readable) < 20_000
    assert not [secret for secret in (*conditions, "method_", "anchor", "hidden ref", "clip_") if secret in readable]
    orders = {tuple(one["condition"] for one in trial) for trial in told}
    assert len(orders) > 1
    assert key["proxies"][runs[0].as_posix()] == {"si_sdr": 5.0, "log_kurtosis_ratio": None}


def test_a_study_follows_from_its_seed(runs):
    assert build_study(runs, 2, 1) == build_study(runs, 2, 1)
    assert build_study(runs, 2, 1)[1]["stimuli"] != build_study(runs, 2, 2)[1]["stimuli"]


def test_all_sounds_of_a_clip_have_one_level_and_none_is_clipped(runs):
    page, key = build_study(runs, 3, 1)
    for trial in content(page)["trials"]:
        sounds = {key["stimuli"][one["id"]]["condition"]: decoded(one["sound"]) for one in trial["stimuli"]}
        levels = [np.sqrt(np.mean(sound**2)) for sound in sounds.values()]
        assert levels == pytest.approx([levels[0]] * 4, rel=1e-3)
        assert max(np.abs(sound).max() for sound in sounds.values()) <= 1
        assert np.array_equal(sounds[REFERENCE], decoded(trial["reference"]))


@pytest.mark.parametrize("rate", [16000, 44100])
def test_the_anchor_ends_between_3500_and_4000_hertz(rate):
    response = np.fft.rfft(low_pass(np.eye(1, 16384, 8192)[0], rate))
    level = 20 * np.log10(np.abs(response) + 1e-12)
    hertz = np.fft.rfftfreq(16384, 1 / rate)
    assert np.abs(level[hertz <= 3500]).max() < 0.1
    assert level[hertz >= 4000].max() < -50


def test_what_cannot_be_a_study_is_refused(runs, tmp_path):
    other = make_run(tmp_path / "other", seed=1)
    for given, clips, told in (
        ([], 1, "give one or more different runs' folders"),
        ([runs[0], runs[0]], 1, "give one or more different runs' folders"),
        (runs, 4, "--clips=4 must be from 1 to 3, the clips that all runs explain with one prediction"),
        ([runs[0], tmp_path], 1, "holds no explained clips"),
        ([runs[0], other], 1, "the runs heard different inputs as clip_"),
    ):
        with pytest.raises(UsageError, match=re.escape(told)):
            build_study(given, clips, 1)
    with pytest.raises(UsageError, match="a study needs more than 8000 Hz"):
        low_pass(np.zeros(100), 8000)


def test_commands_write_a_page_with_its_key_and_read_them_back(runs, tmp_path, capsys):
    main([*map(str, runs), "--clips=2", f"--out={tmp_path / 'study.html'}"])
    key = json.loads((tmp_path / "study.key.json").read_text())
    assert content((tmp_path / "study.html").read_bytes())["study"] == key["study"]
    path = rated(tmp_path, key, "ann")
    main(["--aggregate", str(path), f"--key={tmp_path / 'study.key.json'}"])
    assert "1 listeners, 2 clips; nobody screened" in capsys.readouterr().out
    with pytest.raises(UsageError, match="--aggregate needs --key"):
        main(["--aggregate", str(path)])
    with pytest.raises(UsageError, match="is not the JSON file of a study's key: that is an object with study"):
        main(["--aggregate", str(path), f"--key={path}"])


# ratings


def rated(folder: Path, key: dict, rater: str, reference: float = 100, **changes) -> Path:
    """A listener's file: the hidden reference as told, the anchor 20, every run 50; relevance 10 less."""
    quality = {REFERENCE: reference, ANCHOR: 20}
    ratings = [
        {"stimulus": name, "quality": quality.get(one["condition"], 50), "relevance": 10}
        for name, one in key["stimuli"].items()
    ]
    path = folder / f"{rater}.json"
    path.write_text(json.dumps({"study": key["study"], "rater": rater, "ratings": ratings} | changes))
    return path


def test_ratings_add_up_beside_proxies(runs, tmp_path):
    _, key = build_study(runs, 3, 1)
    lines = aggregate([rated(tmp_path, key, "ann"), rated(tmp_path, key, "bob", 80)], key, False).splitlines()
    assert lines[0].split("  ")[0] == "condition"
    assert lines[1].startswith(runs[0].as_posix())
    assert lines[1].split()[1:] == "50.0 [50.0, 50.0] 10.0 [10.0, 10.0] 5".split()  # noqa: SIM905
    assert lines[3].startswith("hidden reference")
    assert "90.0 [80.0, 100.0]" in lines[3]
    assert "20.0 [20.0, 20.0]" in lines[4]
    assert lines[5] == "2 listeners, 3 clips; nobody screened (see --screen)"


def test_listeners_who_miss_the_hidden_reference_can_be_screened_out(runs, tmp_path):
    _, key = build_study(runs, 3, 1)
    files = [rated(tmp_path, key, "ann", 90), rated(tmp_path, key, "bob", 89)]
    told = aggregate(files, key, True)
    assert "1 listeners, 3 clips; screened out" in told
    assert told.splitlines()[-2].endswith(": bob")
    assert "90.0 [90.0, 90.0]" in told
    with pytest.raises(UsageError, match="no listener is left"):
        aggregate(files[1:], key, True)


def test_fifteen_percent_of_the_clips_may_be_missed():
    key = {"stimuli": {str(k): {"clip": str(k), "condition": REFERENCE} for k in range(20)}}
    for missed, fails in ((3, False), (4, True)):
        ratings = [{"stimulus": str(k), "quality": 50 if k < missed else 95} for k in range(20)]
        assert fails_screening(ratings, key) is fails


def test_files_that_do_not_belong_are_refused(runs, tmp_path):
    _, key = build_study(runs, 2, 1)
    good = rated(tmp_path, key, "ann")
    wild = [{"stimulus": next(iter(key["stimuli"])), "quality": 101, "relevance": 5}]
    (tmp_path / "text.json").write_text("no JSON")
    for files, told in (
        ([rated(tmp_path, key, "cid", study="x")], "belongs to another study"),
        ([rated(tmp_path, key, "bob", ratings=wild)], "holds a rating that the study's page cannot have given"),
        ([good, good], "two files come from one listener"),
        ([rated(tmp_path, key, "dan", ratings=[{"stimulus": "x"}])], "holds a rating that the study's page cannot"),
        ([rated(tmp_path, key, "eve", ratings=["x"])], "holds a rating that the study's page cannot have given"),
        ([rated(tmp_path, key, "flo", ratings=None)], "is not the JSON file of ratings that a listener exported"),
        ([tmp_path / "text.json"], "cannot be read"),
        ([tmp_path / "none.json"], "cannot be read"),
    ):
        with pytest.raises(UsageError, match=told):
            aggregate(files, key, False)


# a listener


@pytest.mark.skipif(
    browser.COMMAND is None, reason="no Chromium on PATH: what pages do in a browser stays untested here"
)
def test_a_listener_hears_rates_and_exports(runs, tmp_path):
    page, key = build_study(runs, 2, 1)
    script = """
        const told = {}, text = () => JSON.parse(at("text").value);
        const heard = () => JSON.stringify(order.map((trial) => trial.stimuli.map((one) => one.id)));
        const orders = ["ann", "bob", "cid", "dan"].map((name) => { begin(name); return heard(); });
        told.orders = new Set(orders).size;
        localStorage.clear(); set("[name=rater]", "ann"); click("#welcome button"); await until(() => rater === "ann");
        told.same = orders[0] === heard();
        told.prediction = at("prediction").textContent;
        click("#reference"); await until(() => source);
        click("#versions button"); await until(() => source && playing.textContent === "A");
        const rate = (value) => document.querySelectorAll("#versions input").forEach((one, index) => {
          one.value = value + index; one.dispatchEvent(new Event("input"));
        });
        document.querySelectorAll("#versions input").forEach((one) => one.dispatchEvent(new Event("pointerup")));
        told.middle = [...document.querySelectorAll("#versions output")].map((one) => one.value).join(" ");
        rate(10); told.progress = at("progress").textContent;
        click("#next"); told.unrated = at("progress").textContent; click("#next");
        told.missing = at("missing").textContent; told.half = text().ratings.length;
        click("#again"); rate(50); click("#back");
        told.kept = [...document.querySelectorAll("#versions output")].map((one) => one.value);
        click("#next"); click("#next"); told.done = at("missing").textContent;
        told.file = [at("download").download, await (await fetch(at("download").href)).json()];
        begin("ann"); told.again = document.querySelector("#versions output").value;
        const wide = document.documentElement; told.over = wide.scrollWidth - wide.clientWidth;
        return told;"""
    told = browser.run(page, script, tmp_path, 360)
    name, ratings = told.pop("file")
    assert told == {
        "orders": 4,
        "same": True,
        "prediction": "</script>dog",
        "middle": " ".join(["50"] * 8),
        "progress": "all rated here",
        "unrated": "4 of 4 still to rate here",
        "missing": "4 versions are not rated yet.",
        "half": 4,
        "kept": [str(10 + k) for k in range(8)],
        "done": "Everything is rated. Thank you!",
        "again": "10",
        "over": 0,
    }
    assert name == "ratings ann.json"
    assert {one["stimulus"] for one in ratings["ratings"]} == set(key["stimuli"])
    (tmp_path / name).write_text(json.dumps(ratings))
    assert "1 listeners, 2 clips" in aggregate([tmp_path / name], key, False)
