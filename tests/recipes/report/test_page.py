"""The report page: what it holds and escapes, its size, and, in a real Chromium, that it plays, filters and fits."""

import base64
import io
import json
import math
import re
import xml.etree.ElementTree as ET
from collections import Counter
from dataclasses import replace
from html.parser import HTMLParser

import browser
import numpy as np
import pytest
import soundfile

from recipes.report.figures import MAX_COLUMNS, bitmap
from recipes.report.page import (
    LOSSLESS_CARDS,
    Card,
    Confusion,
    Page,
    Rival,
    Sound,
    encode_sound,
    finite,
    render_confusion,
    render_page,
)

RATE = 16000
EVIL = "</script><script>alert('&\"')</script>"
PICTURE = bitmap(np.random.default_rng(0).random((43, 33)), 1.0, "magma")


def card(title: str = "clip", prediction: str = "dog", label: str | None = "dog", **scores: float) -> Card:
    tone = 0.5 * np.sin(np.arange(2 * RATE) / 10)
    sounds = [Sound(part, tone, RATE, part) for part in ("input", "relevant", "residual")]
    shares = {prediction: (0.75, 0.5, 0.25)}
    return Card(title, prediction, label, shares, scores or {"fa": 0.5}, PICTURE, PICTURE, 2.0, 8.0, sounds)


@pytest.fixture(scope="module")
def page() -> Page:
    """Four clips with scores 0.1, 0.3, 0.2 and undefined; the second and fourth are wrong."""
    cards = [
        card("a", "dog", "dog", fa=0.1, kept=0.9),
        card("b", "dog", "cat", fa=0.3, kept=0.8),
        card("c", "cat", "cat", fa=0.2, kept=0.7),
        card("d", "owl", "dog", fa=math.nan, kept=0.6),
    ]
    confusion = Confusion(Counter({(0, 0): 1, (1, 0): 1, (1, 1): 1, (0, 2): 1}), ("dog", "cat", "owl"))
    rivals = [Rival("lmac/1", {"fa": 0.2}, True), Rival("piq/1", {"fa": None}, False)]
    return Page(
        "tried",
        {"seed": 1},
        cards,
        {"fa": 0.2, "sps": math.nan},
        b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>',
        rivals,
        confusion,
        card("two"),
    )


class Tags(HTMLParser):
    """Tags in order with their attributes, and the text outside scripts and styles."""

    def __init__(self, text: str):
        super().__init__()
        self.tags: list[tuple[str, dict]] = []
        self.text: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        if self.tags and self.tags[-1][0] not in ("script", "style"):
            self.text.append(data.strip())

    def all(self, tag: str) -> list[dict]:
        return [attributes for name, attributes in self.tags if name == tag]


# what is in it


def test_every_string_from_outside_is_escaped():
    evil = replace(card(EVIL, EVIL, "owl", **{EVIL: 1.0}), probabilities={EVIL: (1.0, 0.0, 0.0)})
    evil = replace(evil, sounds=[replace(sound, name=EVIL, part=EVIL) for sound in evil.sounds])
    confusion = Confusion(Counter({(0, 1): 1}), (EVIL, "owl"))
    rivals = [Rival(EVIL, {}, True), Rival(EVIL, {}, False)]
    page = Page(EVIL, {EVIL: EVIL}, [evil, evil], {EVIL: 1.0}, None, rivals, confusion, evil)
    text = render_page(page).decode()
    assert text.count("<script") == text.count("</script>") == 1
    assert "alert('" not in text
    found = Tags(text)
    assert found.text.count(EVIL) > 20
    first = found.all("article")[0]
    assert json.loads(first["data-classes"]) == ["owl", EVIL]
    assert json.loads(first["data-scores"]) == {EVIL: 1.0}


def test_a_page_needs_no_other_file(page):
    text = render_page(page).decode()
    found = Tags(text)
    sources = [given[name] for _, given in found.tags for name in ("src", "data-sound") if name in given]
    assert len(sources) == 1 + 5 * (2 + 3)
    assert all(source.startswith("data:") for source in sources)
    assert [given["href"] for _, given in found.tags if "href" in given] == ["#clips"]
    assert not re.search(r"@import|url\(|https?://(?!www\.w3\.org)", text)


def test_numbers_are_short_and_nan_is_undefined(page):
    text = re.sub(r"\s+", " ", render_page(page).decode())
    assert '<tr><th scope="row">SPS</th><td>undefined</td>' in text
    assert '<tr><th scope="row">FA</th><td>0.2</td>' in text
    assert finite({"fa": math.nan, "kept": 0.5}) == {"fa": None, "kept": 0.5}


def test_runs_beside_it_stand_in_a_table_only_where_there_are_any(page):
    assert "piq/1" in render_page(page).decode()
    assert "Runs on the same" not in render_page(replace(page, rivals=page.rivals[:1])).decode()


def test_controls_are_labelled_and_in_reading_order(page):
    found = Tags(render_page(page).decode())
    assert not [given for _, given in found.tags if given.get("tabindex") not in (None, "0", "-1")]
    assert [given.get("name") for given in (*found.all("select"),)] == ["class", "score", "order"]
    assert all("aria-label" in given for given in found.all("input") if given.get("type") == "range")
    assert all("alt" in given for given in found.all("img"))
    inputs = [given["name"] for given in found.all("input") if "name" in given]
    assert inputs == ["wrong", "low", "high", "falling", "mask"]
    options = found.all("option")
    assert [given.get("value") for given in options] == ["", None, None, None, "fa", "kept", "", "fa", "kept"]


def test_one_clip_needs_no_filter():
    assert "<form" not in render_page(Page("file.wav", {}, [card(label=None)])).decode()


def test_a_confusion_matrix_is_an_svg_with_a_cell_for_each_pair():
    svg = render_confusion(Confusion(Counter({(0, 1): 3, (0, 0): 1}), ("a<b", "c")))
    root = ET.fromstring(svg)
    cells = {title.text for title in root.iter("{http://www.w3.org/2000/svg}title")}
    assert cells == {"a<b taken for c: 3 of 4", "a<b taken for a<b: 1 of 4"}


def test_few_clips_are_lossless_and_many_are_small():
    wave = np.random.default_rng(0).uniform(-1, 1, RATE).astype(np.float32)
    lossless, small = (encode_sound(Sound("x", wave, RATE), each).partition(",") for each in (True, False))
    assert (lossless[0], small[0]) == ("data:audio/flac;base64", "data:audio/mpeg;base64")
    assert len(small[2]) < len(lossless[2]) / 2.5
    back, rate = soundfile.read(io.BytesIO(base64.b64decode(lossless[2])), dtype="float32")
    assert rate == RATE
    assert np.abs(back - wave).max() < 2 / 32768
    many = render_page(Page("many", {}, [card(str(k)) for k in range(LOSSLESS_CARDS + 1)])).decode()
    assert "audio/mpeg" in many
    assert "audio/flac" not in many


def test_a_bitmap_has_low_frequencies_at_the_bottom_and_a_largest_width():
    values = np.zeros((8, 8))
    values[:, 0] = 1
    image = decoded(bitmap(values, 1.0, "gray"))
    assert image.shape[:2] == (8, 8)
    assert image[-1].mean() > 150 > 60 > image[0].mean()
    assert decoded(bitmap(np.zeros((3 * MAX_COLUMNS, 2)), 1.0, "gray")).shape[1] == MAX_COLUMNS


def decoded(webp: bytes) -> np.ndarray:
    """[height, width] of the red channel."""
    from PIL import Image

    return np.asarray(Image.open(io.BytesIO(webp)).convert("RGB"))[..., 0].astype(float)


# what it does in a browser

needs_browser = pytest.mark.skipif(
    browser.COMMAND is None, reason="no Chromium on PATH: what pages do in a browser stays untested here"
)
SHOWN = "[...document.querySelectorAll('#clips .card:not([hidden]) h3')].map((one) => one.textContent).join('')"


@needs_browser
def test_filter_and_order(page, tmp_path):
    script = f"""
        const told = {{}}, shown = () => {SHOWN} + "|" + document.querySelector("#status").textContent;
        told.all = shown();
        set("[name=wrong]", true); told.wrong = shown();
        set("[name=wrong]", false); set("[name=class]", "dog"); told.dog = shown();
        set("[name=class]", ""); set("[name=score]", "fa"); set("[name=low]", "0.2"); told.from = shown();
        set("[name=high]", "0.25"); told.range = shown();
        click("[type=reset]"); await new Promise((done) => setTimeout(done, 50)); told.reset = shown();
        set("[name=order]", "fa"); told.rising = shown();
        set("[name=falling]", true); told.falling = shown();
        set("[name=order]", ""); told.backwards = shown();
        const mask = () => getComputedStyle(document.querySelector("#clips .mask")).display;
        told.mask = [mask()]; set("[name=mask]", false); told.mask.push(mask());
        return told;"""
    assert browser.run(render_page(page), script, tmp_path) == {
        "all": "abcd|4 of 4 clips",
        "wrong": "bd|2 of 4 clips",
        "dog": "abd|3 of 4 clips",
        "from": "bc|2 of 4 clips",
        "range": "c|1 of 4 clips",
        "reset": "abcd|4 of 4 clips",
        "rising": "acbd|4 of 4 clips",
        "falling": "bcad|4 of 4 clips",
        "backwards": "dcba|4 of 4 clips",
        "mask": ["block", "none"],
    }


@needs_browser
def test_pictures_and_sounds_decode_and_the_playhead_follows(page, tmp_path):
    many = replace(page, cards=[*page.cards, *(card(str(k)) for k in range(LOSSLESS_CARDS))])
    script = """
        const told = {}, offline = new OfflineAudioContext(1, 1, 16000);
        const images = [...document.images];
        images.forEach((image) => { image.loading = "eager"; });
        await Promise.all(images.slice(1, 6).map((image) => image.decode()));
        told.widths = [...new Set(images.slice(1, 6).map((image) => image.naturalWidth))];
        const bytes = async (one) => (await fetch(one.dataset.sound)).arrayBuffer();
        const buttons = [...document.querySelectorAll("[data-sound]")];
        told.seconds = (await offline.decodeAudioData(await bytes(buttons[0]))).duration;
        const card = buttons[0].closest(".card"), plot = card.querySelector(".plot");
        const at = () => Number(plot.style.getPropertyValue("--at"));
        buttons[0].click(); await until(() => at() > 0.1);
        told.playing = [buttons[0].ariaPressed, plot.dataset.part];
        buttons[2].click(); const left = at(); await until(() => source && at() > left);
        told.other = [buttons[0].ariaPressed, buttons[2].ariaPressed, plot.dataset.part];
        buttons[2].click(); told.stopped = [buttons[2].ariaPressed, source, at() > left];
        card.querySelector(".seek").value = 1;
        card.querySelector(".seek").dispatchEvent(new Event("input", { bubbles: true }));
        told.sought = at();
        buttons[1].click(); await until(() => at() > 0.5); await until(() => at() === 0);
        told.ended = [buttons[1].ariaPressed, document.querySelector("#status").textContent];
        return told;"""
    for few_or_many in (page, many):
        told = browser.run(render_page(few_or_many), script, tmp_path)
        assert told.pop("seconds") == pytest.approx(2, abs=0.08)
        clips = len(few_or_many.cards)
        assert told == {
            "widths": [43],
            "playing": ["true", "input"],
            "other": ["false", "true", "residual"],
            "stopped": ["false", None, True],
            "sought": 0.5,
            "ended": ["false", f"{clips} of {clips} clips"],
        }


@needs_browser
@pytest.mark.parametrize("width", [360, 1000])
def test_nothing_sticks_out_of_the_window(page, tmp_path, width):
    script = "const page = document.documentElement; return [innerWidth, page.scrollWidth - page.clientWidth];"
    assert browser.run(render_page(page), script, tmp_path, width) == [width, 0]


@needs_browser
def test_a_hostile_name_runs_nothing_and_can_be_chosen(tmp_path):
    evil = "<img src=x onerror=alert(1)>\"'"
    page = Page(evil, {}, [card(evil, evil, "dog"), card("b")])
    script = f"set('[name=class]', {json.dumps(evil)}); return [{SHOWN}, document.images.length];"
    assert browser.run(render_page(page), script, tmp_path) == [evil, 4]
