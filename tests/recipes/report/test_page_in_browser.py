"""The report page in a real Chromium: filters, pictures, sounds, keys, addresses, several views, and its width."""

import json
import math
from dataclasses import replace
from pathlib import Path

import browser
import pytest
from pages import SECONDS, card, page_of, table_of, view

from recipes.report.cards import WindowAnswer
from recipes.report.page import LOSSLESS_VIEWS, Page, render_page
from recipes.scoring.verdict import FAILS, HOLDS

pytestmark = pytest.mark.skipif(
    browser.COMMAND is None, reason="no Chromium on PATH: what pages do in a browser stays untested here"
)
HELPERS = Path(__file__).with_name("in_page.js").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def page() -> Page:
    """Four clips with an FA of 0.1, 0.3, 0.2 and undefined, the second and the fourth wrong; and one without a card."""
    cards = [
        card("a", "dog", "dog"), card("b", "dog", "cat", [view("", "dog", FAILS)]), card("c", "cat", "cat"),
        card("d", "owl", "dog"),
    ]  # fmt: skip
    return page_of(cards, fa=[0.1, 0.3, 0.2, math.nan, 0.5], kept=[0.9, 0.8, 0.7, 0.6, 0.5])


def run(page: Page, script: str, folder, width: int = 1000):
    return browser.run(render_page(page), HELPERS + script, folder, width)


def test_filter_and_order(page, tmp_path):
    script = """
        const told = {}, now = () => shown() + "|" + status().split(",")[0];
        told.all = now();
        set("[name=wrong]", true); told.wrong = now();
        set("[name=wrong]", false); set("[name=class]", "dog"); told.dog = now();
        set("[name=class]", ""); set("[name=verdict]", "fails"); told.fails = now();
        set("[name=verdict]", ""); set("[name=score]", "fa"); set("[name=low]", "0.2"); told.from = now();
        set("[name=high]", "0.25"); told.range = now();
        click("[type=reset]"); await until(() => shown() === "abcd"); told.reset = now();
        set("[name=order]", "fa"); told.rising = now();
        set("[name=falling]", true); told.falling = now();
        set("[name=order]", ""); told.backwards = now();
        click("[type=reset]"); await until(() => shown() === "abcd");
        click(".confusion [data-true=cat][data-predicted=dog]"); told.pair = now();
        return told;"""
    assert run(page, script, tmp_path) == {
        "all": "abcd|5 of 5 clips",
        "wrong": "bd|2 of 5 clips",
        "dog": "abd|3 of 5 clips",
        "fails": "b|2 of 5 clips",
        "from": "bc|3 of 5 clips",
        "range": "c|1 of 5 clips",
        "reset": "abcd|5 of 5 clips",
        "rising": "acbd|5 of 5 clips",
        "falling": "bcad|5 of 5 clips",
        "backwards": "dcba|5 of 5 clips",
        "pair": "b|cat taken for dog: 1 of 5 clips",
    }


def test_the_table_holds_all_clips_and_sorts_both(page, tmp_path):
    script = """
        const rows = () => all("#table tbody th").map((head) => head.textContent);
        const told = { rows: rows(), cells: all("#table tbody tr")[1].textContent };
        click("[data-order=fa]"); told.rising = [rows(), shown(), one("#table [aria-sort=ascending]").textContent];
        click("[data-order=fa]"); told.falling = [rows()[0], shown()];
        told.focus = document.activeElement.dataset.order;
        told.address = location.hash;
        return told;"""
    assert run(page, script, tmp_path) == {
        "rows": ["a", "b", "c", "d", "without card"],
        "cells": "bcat✗ dog✗ fails0.30.8",
        "rising": [["a", "c", "b", "without card", "d"], "acbd", "FA ▲"],
        "falling": ["without card", "bcad"],
        "focus": "fa",
        "address": "#order=fa&falling=on",
    }


def test_an_address_keeps_filter_and_clip(page, tmp_path):
    script = """
        const told = {};
        location.hash = "#verdict=fails&order=fa"; await until(() => shown() === "b");
        told.fields = [one("[name=verdict]").value, one("[name=order]").value];
        set("[name=wrong]", true); told.written = location.hash;
        location.hash = "#clip=c"; await until(() => document.activeElement.dataset.clip === "c");
        told.shown = shown();
        return told;"""
    assert run(page, script, tmp_path) == {
        "fields": ["fails", "fa"],
        "written": "#wrong=on&verdict=fails&order=fa",
        # the clip was filtered out, so the filter is dropped
        "shown": "abcd",
    }


def test_sounds_play_and_keep_their_place(page, tmp_path):
    many = replace(page, cards=[*page.cards, *(card(str(number)) for number in range(LOSSLESS_VIEWS))])
    script = """
        const told = {}, offline = new OfflineAudioContext(1, 1, 16000);
        const buttons = all("#cards .card:first-child [data-sound]");
        const picture = one("#cards .picture");
        const bytes = await (await fetch(buttons[0].dataset.sound)).arrayBuffer();
        told.seconds = (await offline.decodeAudioData(bytes)).duration;
        buttons[0].click(); await until(() => at("#cards .picture") > 0.1);
        told.playing = [buttons[0].ariaPressed, picture.dataset.part];
        buttons[2].click(); const left = at("#cards .picture");
        await until(() => source && at("#cards .picture") > left);
        told.other = [buttons[0].ariaPressed, buttons[2].ariaPressed, picture.dataset.part];
        buttons[2].click(); told.stopped = [buttons[2].ariaPressed, source];
        set("#cards .seek", 1);
        told.sought = [at("#cards .picture"), Number(picture.style.getPropertyValue("--at"))];
        buttons[1].click(); await until(() => at("#cards .picture") > 1);
        await until(() => at("#cards .picture") === 0);
        told.ended = buttons[1].ariaPressed;
        return told;"""
    for few_or_many in (page, many):
        told = run(few_or_many, script, tmp_path)
        assert told.pop("seconds") == pytest.approx(SECONDS, abs=0.08)
        assert told == {
            "playing": ["true", "input"],
            "other": ["false", "true", "residual"],
            "stopped": ["false", None],
            "sought": [1, 0.5],
            "ended": "false",
        }


def test_a_picture_is_sought_selected_zoomed_looped_and_read(page, tmp_path):
    script = """
        const told = {}, picture = one("#cards .picture"), holder = picture.closest(".card");
        await until(() => drawn(picture));
        clickAt(picture, 0.25); told.click = at("#cards .picture");
        drag(picture, 0.5, 0.75);
        told.drag = [at("#cards .picture"), Number(holder.dataset.to), one("#cards .selection").hidden];
        click("#cards [data-zoom=in]"); told.zoom = [Number(holder.dataset.start), Number(holder.dataset.end)];
        clickAt(picture, 0.5); told.inside = at("#cards .picture");
        told.dropped = one("#cards .selection").hidden;
        click("#cards [data-zoom=out]"); click("#cards [data-zoom=out]");
        told.out = [Number(holder.dataset.start), Number(holder.dataset.end)];
        drag(picture, 0.1, 0.2); click("#cards [data-loop]");
        one("#cards [data-sound]").click(); await until(() => source);
        told.loop = [source.loop, source.loopStart, source.loopEnd];
        await until(() => at("#cards .picture") > 0.3);
        const high = at("#cards .picture"); await until(() => at("#cards .picture") < high);
        told.again = at("#cards .picture") >= 0.19;
        point(picture, "pointermove", 0.25); await until(() => one("#cards .readout").textContent);
        told.readout = one("#cards .readout").textContent.split(", ").map((part) => part.replace(/[0-9.]+/g, "#"));
        return told;"""
    told = run(page, script, tmp_path)
    readout = told.pop("readout")
    assert readout == ["# s", "# kHz", "−# dB", "mask #", "importance #"]
    rounded = json.loads(json.dumps(told), parse_float=lambda text: round(float(text), 1))
    assert rounded == {
        "click": 0.5,
        "drag": [1, 1.5, False],
        "zoom": [1, 1.5],
        "inside": 1.2,
        "dropped": True,
        "out": [0, 2],
        "loop": [True, 0.2, 0.4],
        "again": True,
    }


def test_what_is_removed_is_dimmed_and_what_is_kept_stays(page, tmp_path):
    script = """
        const picture = one("#cards .picture"), buttons = all("#cards .card:first-child [data-sound]");
        await until(() => drawn(picture));
        const look = async () => {
          await until(() => !pictures.get(picture).stale);
          return [darkness(picture, 0.2), darkness(picture, 0.8)];
        };
        const told = { relevant: await look() };
        await playFor(buttons[2]); told.residual = await look();
        await playFor(buttons[0]); told.input = await look();
        await playFor(buttons[1]);
        set("[name=dim]", 0); told.clear = await look();
        set("[name=dim]", 1); told.gone = await look();
        set("[name=show]", "map"); told.map = await look();
        set("[name=axis]", "log"); set("[name=range]", "40"); told.range = one("[data-of=range]").textContent;
        return told;"""
    told = run(page, script, tmp_path)
    assert told["relevant"][1] < 0.5 * told["relevant"][0]
    assert told["residual"][0] < 0.5 * told["residual"][1]
    # what is kept looks as it does in the input
    assert told["relevant"][0] == pytest.approx(told["input"][0], abs=2)
    assert told["residual"][1] == pytest.approx(told["input"][1], abs=2)
    assert told["clear"] == pytest.approx(told["input"], abs=2)
    assert told["gone"][1] == 0
    # the map of the page rises from left to right
    assert told["map"][0] < told["map"][1]
    assert told["range"] == "40 dB"


def test_keys_play_choose_seek_and_step(page, tmp_path):
    script = """
        const told = {};
        const pressed = () => all("[data-sound]").findIndex((button) => button.ariaPressed === "true");
        key(" "); await until(() => source); told.space = pressed();
        key("2"); await until(() => source && pressed() === 1); told.second = pressed();
        key(" "); told.stopped = pressed();
        const before = at("#cards .picture"), moved = () => Math.round(10 * (at("#cards .picture") - before));
        const pressHere = (name) => { key(name, document.activeElement); return document.activeElement.dataset.clip; };
        key("ArrowRight"); told.right = moved();
        key("ArrowLeft"); told.left = moved();
        one("#cards .card").focus(); told.down = pressHere("ArrowDown");
        pressHere("3"); await until(() => source); told.third = playing.closest(".card").dataset.clip;
        told.up = pressHere("ArrowUp");
        stop();
        one("#controls details").open = true; one("[name=low]").focus();
        pressHere("1"); told.typed = pressed();
        return told;"""
    assert run(page, script, tmp_path) == {
        "space": 0, "second": 1, "stopped": -1, "right": 5, "left": 0,
        "down": "b", "third": "b", "up": "a", "typed": -1,
    }  # fmt: skip


def test_quiet_parts_can_be_played_at_the_level_of_the_input(page, tmp_path):
    script = """
        const [input, relevant, residual] = all("#cards .card:first-child [data-sound]");
        input.click(); await until(() => source); stop();
        const gain = async (button) => Math.round(await gainOf(button, await bufferOf(button)));
        const told = [await gain(residual)];
        set("[name=matched]", true);
        return [...told, await gain(input), await gain(relevant), await gain(residual)];"""
    # the residual's tone is 40 dB below the input's
    assert run(page, script, tmp_path) == [1, 1, 1, 100]


def test_one_class_of_several_is_shown_and_windows_are_sought(tmp_path):
    windows = (WindowAnswer(0.0, 1.0, "dog", 0.9), WindowAnswer(1.0, 2.0, "owl", 0.4))
    views = [view("dog", "dog", HOLDS), view("owl", "owl", FAILS)]
    several = card("long.wav", views=views, label=None, choose_view=True, windows=windows)
    script = """
        const visible = () => all(".view").map((part) => !part.hidden);
        const told = { first: visible(), verdict: one(".view:not([hidden]) .verdict").textContent.trim() };
        const choice = one("[data-choose-view]"); choice.value = "1"; choice.dispatchEvent(new Event("change"));
        told.second = visible(); told.other = one(".view:not([hidden]) .verdict").textContent.trim();
        await until(() => drawn(one(".view:not([hidden]) .picture")));
        all(".windows button")[1].click(); told.at = at(".picture");
        key("2"); await until(() => source); told.sound = playing.closest(".view").dataset.view;
        stop();
        return told;"""
    assert run(Page("long.wav", {}, [several]), script, tmp_path) == {
        "first": [True, False], "verdict": "✓ holds",
        "second": [False, True], "other": "✗ fails", "at": 1, "sound": "1",
    }  # fmt: skip


def test_views_side_by_side_share_one_playhead(tmp_path):
    views = [view("Grad-CAM", "dog", HOLDS, fa=0.9), view("LIME", "dog", FAILS, fa=0.1)]
    cards = [card("a", views=views), card("b", views=views)]
    page = Page("two", {}, cards, table=table_of(cards, fa=[0.5, 0.6, 0.7]), wide=True)
    script = """
        const told = {}, pictures = all("#cards .card:first-child .picture");
        await until(() => pictures.every(drawn));
        told.sounds = all("#cards .card:first-child [data-sound]").map((button) => button.textContent.trim());
        clickAt(pictures[1], 0.5);
        told.heads = pictures.map((picture) => Number(picture.style.getPropertyValue("--at")).toFixed(1));
        const residual = all("#cards .card:first-child button[data-part=residual]")[1];
        residual.click(); await until(() => source && at(".picture") > 1.1); stop();
        told.parts = pictures.map((picture) => picture.dataset.part);
        const heads = pictures.map((picture) => picture.style.getPropertyValue("--at"));
        told.together = heads[0] === heads[1];
        told.other = Number(all("#cards .picture")[2].style.getPropertyValue("--at") || 0);
        return told;"""
    told = run(page, script, tmp_path)
    assert told == {
        "sounds": ["input", "relevant", "residual", "relevant", "residual"],
        "heads": ["0.5", "0.5"],
        "parts": ["relevant", "residual"],
        "together": True,
        "other": 0,
    }


@pytest.mark.parametrize("width", [360, 1000])
def test_nothing_sticks_out_of_the_window(page, tmp_path, width):
    script = "const page = document.documentElement; return [innerWidth, page.scrollWidth - page.clientWidth];"
    assert run(page, script, tmp_path, width) == [width, 0]


def test_a_hostile_name_runs_nothing_and_can_be_chosen(tmp_path):
    evil = "<img src=x onerror=alert(1)>\"'"
    cards = [card(evil, evil, "dog"), card("b")]
    page = Page(evil, {}, cards, table=table_of(cards, fa=[0.1, 0.2, 0.3]))
    script = f"""
        set("[name=class]", {json.dumps(evil)});
        const told = [shown(), all('img:not(.thumb)').length];
        location.hash = "#clip=" + encodeURIComponent({json.dumps(evil)});
        await until(() => document.activeElement.dataset.clip === {json.dumps(evil)});
        return told;"""
    assert run(page, script, tmp_path) == [evil, 0]


def test_pictures_out_of_sight_are_drawn_too_so_that_they_are_printed(tmp_path):
    page = page_of([card(f"clip{number}", "dog", "dog") for number in range(12)], fa=[0.5] * 13, kept=[0.5] * 13)
    script = """
        const canvases = [...document.querySelectorAll(".picture canvas")];
        const pixels = (canvas) => canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
        const inked = (canvas) => pixels(canvas).some((value) => value);
        const below = canvases.filter((canvas) => canvas.getBoundingClientRect().top > 2 * innerHeight).length;
        await until(() => canvases.every(inked));
        return [canvases.length, below > 0];"""
    assert run(page, script, tmp_path) == [13, True]  # the twelve clips and the mixture
