"""Every tool of recipes/ answers --help with what it is for and all its arguments."""

import argparse
import importlib
import re

import pytest

from recipes.config.catalog import tools

NAMES = [command.removeprefix("python -m ") for command in tools()]


@pytest.mark.parametrize("name", NAMES)
def test_help_shows_the_docstring_and_every_argument_with_its_meaning(name, capsys, monkeypatch):
    module = importlib.import_module(name)
    added: list[argparse.Action] = []
    add_argument = argparse.ArgumentParser.add_argument

    def remember(parser, *names, **options):
        added.append(add_argument(parser, *names, **options))
        return added[-1]

    monkeypatch.setattr(argparse.ArgumentParser, "add_argument", remember)
    try:
        module.main(["--help"])
    except SystemExit as left:
        assert left.code == 0
    told = capsys.readouterr().out
    assert module.__doc__.splitlines()[0] in told
    for action in added:
        assert action.help, f"{name} does not explain {action.option_strings or action.dest}"
        shown = action.option_strings[0] if action.option_strings else action.metavar or action.dest
        assert re.search(rf"^  .*{re.escape(shown)}", told, re.M)
