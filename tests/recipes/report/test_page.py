"""The report page: what it holds and escapes, and its size. What it does in a browser: test_page_in_browser.py."""

import math
import re
import xml.etree.ElementTree as ET
from collections import Counter
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from pages import card, page_of, table_of, view

from recipes.report.page import LOSSLESS_VIEWS, Confusion, Page, Rival, anchor, finite, render_confusion, render_page

EVIL = "</script><script>alert('&\"')</script>"


@pytest.fixture(scope="module")
def page() -> Page:
    """Four clips with an FA of 0.1, 0.3, 0.2 and undefined, the second and the fourth wrong; and one without a card."""
    cards = [card("a", "dog", "dog"), card("b", "dog", "cat"), card("c", "cat", "cat"), card("d", "owl", "dog")]
    return page_of(cards, fa=[0.1, 0.3, 0.2, math.nan, 0.5], kept=[0.9, 0.8, 0.7, 0.6, 0.5])


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


def test_every_string_from_outside_is_escaped():
    evil_view = replace(view(EVIL, EVIL, **{EVIL: 1.0}), probabilities={EVIL: (1.0, 0.0, 0.0)}, answer=EVIL)
    evil_view = replace(evil_view, sounds=[replace(sound, name=EVIL, part=EVIL) for sound in evil_view.sounds])
    evil = card(EVIL, EVIL, "owl", [evil_view, evil_view], reason=EVIL)
    evil = replace(evil, sounds=[replace(evil.sounds[0], name=EVIL)])
    confusion = Confusion(Counter({(0, 1): 1}), (EVIL, "owl"))
    rivals = [Rival(EVIL, {}, True), Rival(EVIL, {}, False)]
    page = Page(
        EVIL, {EVIL: EVIL}, [evil, evil], [EVIL], EVIL, table_of([evil], **{EVIL: [1.0, 2.0]}), {EVIL: 1.0},
        rivals=rivals, confusion=confusion, mixture=evil,
    )  # fmt: skip
    text = render_page(page).decode()
    assert text.count("<script") == text.count("</script>") == 3
    assert "alert('" not in text
    assert Tags(text).text.count(EVIL) > 20


def test_a_page_needs_no_other_file(page):
    text = render_page(page).decode()
    tags = Tags(text)
    media = ("src", "data-sound", "data-levels", "data-mask", "data-map")
    sources = [attributes[name] for _, attributes in tags.tags for name in media if name in attributes]
    # a plot, and per card three sounds and three pictures
    assert len(sources) == 1 + 5 * (3 + 3)
    assert all(source.startswith("data:") for source in sources)
    links = {attributes["href"] for _, attributes in tags.tags if "href" in attributes}
    assert links == {"#clips", *(f"#clip={name}" for name in ("a", "b", "c", "d", "two"))}
    assert not re.search(r"@import|url\(|https?://(?!www\.w3\.org)", text)


def test_numbers_are_short_and_nan_is_undefined(page):
    text = re.sub(r"\s+", " ", render_page(page).decode())
    assert '<tr><th scope="row">SPS</th><td>undefined</td>' in text
    assert '<tr><th scope="row">FA</th><td>0.2</td>' in text
    assert finite({"fa": math.nan, "kept": 0.5}) == {"fa": None, "kept": 0.5}


def test_the_answer_and_the_wrong_clips_come_before_everything_else(page):
    text = render_page(page).decode()
    places = [
        text.index(part) for part in ("4 clips.", "<article", "Without it: dog 25 %", "All 5 clips", "About this page")
    ]
    assert places == sorted(places)


def test_runs_beside_it_stand_in_a_table_only_where_there_are_any(page):
    assert "piq/1" in render_page(page).decode()
    assert "Runs on the same" not in render_page(replace(page, rivals=page.rivals[:1])).decode()


def test_controls_are_labelled_and_in_reading_order(page):
    tags = Tags(render_page(page).decode())
    assert not [attributes for _, attributes in tags.tags if attributes.get("tabindex") not in (None, "0", "-1")]
    names = [attributes.get("name") for attributes in tags.all("select")]
    assert names == ["class", "verdict", "order", "score", "show", "axis"]
    sliders = [attributes for attributes in tags.all("input") if attributes.get("type") == "range"]
    assert all("aria-label" in slider or "name" in slider for slider in sliders)
    assert all("alt" in image for image in tags.all("img"))
    assert all("aria-label" in canvas and canvas["role"] == "img" for canvas in tags.all("canvas"))
    named = [attributes["name"] for attributes in tags.all("input") if "name" in attributes]
    assert named == ["wrong", "falling", "low", "high", "true", "predicted", "dim", "range", "matched"]


def test_one_clip_needs_no_filter():
    text = render_page(Page("file.wav", {}, [card(label=None)])).decode()
    assert 'id="controls"' not in text
    assert 'id="table"' not in text


def test_an_id_of_an_element_is_one_word():
    assert anchor("5-1 a/b") == "5-1_20_a_2f_b"


def test_a_confusion_matrix_is_an_svg_with_a_cell_for_each_pair():
    svg = render_confusion(Confusion(Counter({(0, 1): 3, (0, 0): 1}), ("a<b", "c")))
    root = ET.fromstring(svg)
    cells = {title.text for title in root.iter("{http://www.w3.org/2000/svg}title")}
    assert cells == {"a<b taken for c: 3 of 4", "a<b taken for a<b: 1 of 4"}


def test_the_most_confused_pairs_are_named():
    confusion = Confusion(Counter({(0, 0): 9, (0, 1): 3, (1, 0): 2, (1, 1): 1}), ("a", "b"))
    assert confusion.most_confused(1) == [(("a", "b"), 3)]
    assert confusion.totals == {0: 12, 1: 3}


def test_few_clips_are_lossless_and_many_are_small():
    few = render_page(Page("few", {}, [card()])).decode()
    many = render_page(Page("many", {}, [card(str(number)) for number in range(LOSSLESS_VIEWS + 1)])).decode()
    assert 'data-sound="data:audio/flac' in few and "data:audio/mpeg" not in few
    assert 'data-sound="data:audio/mpeg' in many and 'data-sound="data:audio/flac' not in many
