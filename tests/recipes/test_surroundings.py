"""Where the toolkit runs: beside a user's own files, from a clone, on whatever terminal."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def run(folder: Path, *command: str, **environment: str) -> subprocess.CompletedProcess:
    """Python in a folder, with the clone on its path."""
    variables = os.environ | {"PYTHONPATH": str(ROOT)} | environment
    return subprocess.run([sys.executable, *command], cwd=folder, env=variables, capture_output=True, check=False)


@pytest.mark.parametrize("name", ["models", "interpreters"])
def test_a_users_own_file_that_hides_a_package_is_named(tmp_path, name):
    (tmp_path / f"{name}.py").write_text("")
    (tmp_path / "script.py").write_text("from recipes.inference import SoundInterpreter\n")
    finished = run(tmp_path, "script.py")
    told = finished.stderr.decode().splitlines()[-1]
    assert finished.returncode == 1
    assert told == (
        f"ImportError: {tmp_path / name}.py hides Earwitness's package {name!r} ({ROOT / name}): "
        "rename it, or run Python from elsewhere"
    )


def test_windows_is_told_where_it_runs(monkeypatch):
    import recipes

    monkeypatch.setattr(recipes.os, "name", "nt")
    with pytest.raises(ImportError, match=r"runs on Linux and macOS; on Windows, run it in WSL"):
        recipes._check_system()


@pytest.mark.parametrize("encoding", ["latin-1", "ascii", "utf-8"])
def test_a_terminal_that_lacks_letters_shows_them_as_escapes(tmp_path, encoding):
    (tmp_path / "script.py").write_text(
        "import sys\nfrom recipes.system.entry import entry\n"
        "entry(lambda arguments: print('完了', 'ü', file=sys.stderr) or print('日本語.wav'))\n",
        encoding="utf-8",
    )
    finished = run(tmp_path, "script.py", PYTHONIOENCODING=encoding)
    shown = "日本語.wav" if encoding == "utf-8" else "\\u65e5\\u672c\\u8a9e.wav"
    assert (finished.returncode, finished.stdout.decode().strip()) == (0, shown)
    assert finished.stderr.decode("utf-8" if encoding == "utf-8" else "latin-1").startswith(
        "完了" if encoding == "utf-8" else "\\u5b8c\\u4e86"
    )


def test_a_refusal_with_such_a_name_is_one_line_on_any_terminal(tmp_path):
    finished = run(ROOT, "train.py", "日本語.yaml", PYTHONIOENCODING="latin-1")
    assert finished.returncode == 2
    told = finished.stderr.decode()
    assert told.startswith("error: no recipe \\u65e5\\u672c\\u8a9e.yaml; `python train.py --list`")
    assert told.count("\n") == 1


@pytest.mark.parametrize("build", ["build_wheel", "build_sdist"])
def test_a_wheel_is_refused_and_a_clone_is_installed_in_place(build):
    code = f"import sys; sys.path.insert(0, 'tools/packaging'); import clone_only; clone_only.{build}('.')"
    finished = run(ROOT, "-c", code)
    assert finished.returncode == 1
    assert b"runs from a clone, not from a wheel: git clone it and run `make setup`" in finished.stderr
    assert run(ROOT, "-c", code.partition("clone_only.")[0] + "assert clone_only.build_editable").returncode == 0
