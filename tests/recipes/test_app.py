"""The live page: what it answers and refuses, sounds of several people at once, and, where Gradio is, a real server."""

import importlib.util
import re
import threading

import numpy as np
import pytest

from models.errors import UsageError
from recipes.app import PREDICTED, Explainers, build_app
from recipes.runs.ready import CONTROL, UNTRAINED, untrained_interpreters
from recipes.runs.subject import load_subject


@pytest.fixture(scope="module")
def explainers(bundle) -> Explainers:
    subject = load_subject(bundle("focalnet"), "cpu")
    return Explainers(subject, untrained_interpreters(subject, "cpu"), max_seconds=3)


@pytest.fixture
def sound(sound_file):
    return str(sound_file("heard.wav", 0.1 * np.random.default_rng(0).standard_normal(16000)))


def test_the_untrained_methods_of_a_classifier_are_offered(explainers):
    assert explainers.names[0] == "Grad-CAM"
    assert {"LIME", "native map", CONTROL} <= set(explainers.names) <= set(UNTRAINED)


def test_a_sound_is_answered_by_every_chosen_method(explainers, sound):
    page = explainers.answer(sound, ["gradient", CONTROL], PREDICTED).decode()
    assert re.findall(r"<h4>([^<]*)</h4>", page) == ["gradient", CONTROL]
    assert "heard as" in page and "heard.wav" in page


def test_another_class_can_be_asked_about(explainers, sound):
    asked = explainers.subject.info.class_names[3]
    assert f"The relevant part alone: {asked} " in explainers.answer(sound, ["gradient"], asked).decode()


def test_what_cannot_be_answered_is_told(explainers, sound, sound_file, tmp_path):
    long = str(sound_file("long.wav", np.ones(4 * 16000)))
    broken = tmp_path / "broken.wav"
    broken.write_bytes(b"no sound")
    for path, chosen, sentence in (
        (None, ["gradient"], "choose a sound file or record one"),
        (sound, [], "choose at least one method"),
        (long, ["gradient"], "the sound lasts 4 s and this page takes 3 s at most"),
        (str(broken), ["gradient"], "broken.wav"),
    ):
        with pytest.raises(UsageError, match=sentence) as caught:
            explainers.answer(path, chosen, PREDICTED)
        assert str(tmp_path) not in str(caught.value)


def test_people_at_once_hear_about_their_own_sounds(explainers, sound_file):
    pages = {}

    def ask(number: int) -> None:
        wave = np.random.default_rng(number).standard_normal(8000 * (number + 1))
        path = str(sound_file(f"sound{number}.wav", 0.1 * wave))
        pages[number] = explainers.answer(path, ["gradient"], PREDICTED).decode()

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for number, page in pages.items():
        assert set(re.findall(r"sound\d\.wav", page)) == {f"sound{number}.wav"}
        assert f'data-seconds="{(number + 1) / 2:.4f}"' in page
    assert len(pages) == 3


@pytest.mark.skipif(importlib.util.find_spec("gradio") is not None, reason="Gradio is installed")
def test_without_gradio_one_sentence_says_how_to_get_it(explainers):
    with pytest.raises(UsageError, match=r"pip install -e '.\[app\]'"):
        build_app(explainers, 20)


@pytest.mark.skipif(importlib.util.find_spec("gradio") is None, reason="Gradio, an optional extra, is not installed")
def test_a_real_server_answers_and_keeps_nothing(explainers, sound, tmp_path, monkeypatch):
    from gradio_client import Client, handle_file
    from gradio_client.exceptions import AppError

    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "uploads"))
    app = build_app(explainers, 20)
    _, address, _ = app.launch(server_name="127.0.0.1", quiet=True, prevent_thread_lock=True)
    try:
        client = Client(address, verbose=False)
        answer = client.predict(handle_file(sound), ["gradient"], PREDICTED, api_name="/explain")
        assert answer.startswith("<iframe") and "heard as" in answer
        with pytest.raises(AppError, match="choose at least one method"):
            client.predict(handle_file(sound), [], PREDICTED, api_name="/explain")
    finally:
        app.close()
    assert not [path for path in (tmp_path / "uploads").rglob("*") if path.is_file()]
