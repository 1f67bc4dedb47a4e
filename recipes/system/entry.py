"""How a command starts and ends: what a user did wrong is one sentence and exit code 2."""

import argparse
import errno
import gc
import logging
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from models.errors import UsageError
from recipes.system.console import speaks
from recipes.system.files import unwritable
from recipes.system.interruption import Interrupted, raise_on_signals
from recipes.system.memory import keep_freed_memory

_is_command = False
REFUSED_WRITES = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM}


def entry(main: Callable[[list[str]], object]) -> None:
    """Run a script: a user's mistake is one sentence on stderr and exit code 2, anything else is a real error.

    So is a write that the system refuses. SIGTERM and Ctrl-C end it with a sentence and 143 or 130.
    """
    global _is_command
    _is_command = True
    _silence_libraries()
    keep_freed_memory()
    if not speaks():
        logging.getLogger("recipes").setLevel(logging.ERROR)
    never_fail_to_print()
    raise_on_signals()
    try:
        main(sys.argv[1:])
    except UsageError as error:
        _leave(2, f"error: {error}")
    except OSError as error:
        if error.errno not in REFUSED_WRITES:
            raise
        _leave(2, f"error: {unwritable(error.filename or 'a file', error)}")
    except Interrupted as signal:
        _leave(signal.code, f"stopped by {signal}: give the same command again to go on")


@contextmanager
def without_collection() -> Iterator[None]:
    """For imports of large libraries: garbage collection would look again and again at the many objects that they make
    and keep, which took 0.6 of 2.9 s of CPU.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
        if _is_command:
            gc.freeze()  # nor afterwards; a process that goes on, as that of tests does, would keep its garbage
    finally:
        if enabled:
            gc.enable()


RECIPE_KEYS = (
    "beside these stand RECIPE.yaml and any of its keys (--key=value): interpret.py RECIPE.yaml --help lists them"
)


def tool_parser(name: str, description: str, takes_recipe: bool = False) -> argparse.ArgumentParser:
    """The command line of `python -m recipes.NAME`, whose --help shows the module's docstring and all arguments.

    takes_recipe: what the parser leaves over is a recipe with its keys.
    """
    return argparse.ArgumentParser(
        prog=f"python -m recipes.{name}",
        description=description,
        epilog=RECIPE_KEYS if takes_recipe else None,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )


def _silence_libraries() -> None:
    """Drop the warnings that tell a user nothing: no recipe asks for what they say is missing."""
    warnings.filterwarnings("ignore", message=".*torchaudio.*")
    train_logger = logging.getLogger("speechbrain.utils.train_logger")
    train_logger.addFilter(lambda record: "torchvision" not in record.getMessage())


def never_fail_to_print() -> None:
    """Show characters that the terminal's encoding lacks as escapes: a Latin-1 terminal has no Japanese letters."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def _leave(code: int, sentence: str) -> None:
    if speaks():
        print(sentence, file=sys.stderr)
    sys.exit(code)
