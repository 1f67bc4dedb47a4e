"""The mission's own lines, as a newcomer types them: flag-free, in order, on small data."""

import shlex
import shutil
from pathlib import Path

import pytest

import interpret
import train
from models.errors import UsageError

ROOT = Path(__file__).parents[2]
LINES = (
    "python train.py hparams/focalnet.yaml",
    "python interpret.py hparams/modulation.yaml",
    "python train.py hparams/cnn14.yaml",
    "python interpret.py hparams/lmac_td.yaml",
)
# what makes the recipes small: text in a copy of hparams/, and what stands there instead
SMALL = {
    "common/classifier.yaml": (("clip_seconds: 5.0", "clip_seconds: 1.0"), ("num_classes: 50", "num_classes: 10")),
    "common/fitting.yaml": (("precision: auto", "precision: fp32"),),
    "common/scoring.yaml": (("report_clips: 8", "report_clips: 0"),),
    "focalnet.yaml": (
        ("epochs: 100", "epochs: 1"),
        ("size: base", "size: nano"),
        ("weights: microsoft/focalnet-base", "weights: null"),
    ),
    "cnn14.yaml": (("epochs: 200", "epochs: 1"), ("width: 1.0", "width: 0.0625"), ("batch_size: 32", "batch_size: 20")),
    "lmac_td.yaml": (("epochs: 2 ", "epochs: 1 "), ("batch_size: 2\n", "batch_size: 20\n")),
    "interpreters/lmac_td_method.yaml": (
        ("width: 256", "width: 16"), ("filters: 256", "filters: 128"), ("kernel: 16", "kernel: 64"),
        ("layers: 2\n    chunk: 250", "layers: 1\n    chunk: 50"), ("intra_layers: 8", "intra_layers: 1"),
        ("inter_layers: 2", "inter_layers: 1"), ("feed_forward: 256", "feed_forward: 16"),
    ),
}  # fmt: skip


@pytest.fixture
def clone(tmp_path, corpus, monkeypatch) -> Path:
    """A folder with hparams/ of small networks and the corpus where ESC-50 is by default; the working folder."""
    shutil.copytree(ROOT / "hparams", tmp_path / "hparams")
    for name, changes in SMALL.items():
        file = tmp_path / "hparams" / name
        text = file.read_text(encoding="utf-8")
        for written, instead in changes:
            assert text.count(written) == 1, f"{name}: {written!r}"
            text = text.replace(written, instead)
        file.write_text(text, encoding="utf-8")
    (tmp_path / "data").mkdir()
    (tmp_path / "data/ESC-50").symlink_to(corpus)
    monkeypatch.delenv("EARWITNESS_DATA", raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(line: str) -> None:
    """What a line does, in this process: the import of torch is paid once."""
    _, script, *arguments = shlex.split(line)
    {"train.py": train, "interpret.py": interpret}[script].main(arguments)


def test_the_missions_lines_run_as_they_are_in_order(clone):
    for line in LINES:
        run(line)
    for folder, bundle in (("focalnet", "classifier"), ("modulation", "interpreter"), ("cnn14", "classifier"),
                           ("lmac_td", "interpreter")):  # fmt: skip
        assert (clone / "results" / folder / "1234" / bundle / "bundle.json").is_file()
        assert (clone / "results" / folder / "1234" / "metrics.json").is_file()


def test_before_its_classifier_is_trained_a_line_says_which_line_comes_first(clone):
    with pytest.raises(UsageError) as caught:
        run(LINES[1])
    assert str(caught.value) == (
        "no trained classifier at results/focalnet/1234/classifier: make one with "
        "`python train.py hparams/focalnet.yaml`, or pass --classifier=path/to/a/classifier"
    )


def test_the_readme_shows_the_missions_lines():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for line in LINES:
        assert line in readme
