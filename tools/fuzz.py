"""A fuzzer: bytes of sound and metadata files changed at random; what comes out is data or a sentence.

python -m tools.fuzz --cases=20000 --out=docs/results/reliability/fuzz.json
"""

import argparse
import json
import random
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np

from models.errors import UsageError
from recipes.config.recipe import entry
from recipes.data.audio import read_audio
from recipes.data.metadata import read_corpus
from recipes.system.files import write_atomically
from tools.faults import encoded, make, rows

KINDS = ("WAV", "RF64", "W64", "AIFF", "AU", "FLAC", "OGG")


def mutated(content: bytes, rng: random.Random) -> bytes:
    """One to three changes: a byte set, a run cut out, doubled or overwritten, the end cut off; headers more often."""
    data = bytearray(content)
    for _ in range(rng.randint(1, 3)):
        place = rng.randrange(max(1, min(len(data), 64 if rng.random() < 0.6 else len(data))))
        length = rng.choice((1, 2, 4, 8, 100))
        change = rng.randrange(6)
        if change < 3:
            data[place : place + 1] = bytes([rng.choice((0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)))])
        elif change == 3:
            del data[place : place + length]
        elif change == 4:
            data[place:place] = data[place : place + length]
        else:
            data[place:] = data[place:][: rng.randrange(len(data) - place + 1)]
    return bytes(data)


def hear(path: Path) -> None:
    """Read a sound. Raises UsageError as `read_audio`, AssertionError for what no recipe may be given."""
    audio = read_audio(path, 1.0)
    assert audio.waveform.dtype == np.float32
    assert audio.waveform.ndim == 2
    assert audio.waveform.size
    assert np.isfinite(audio.waveform).all()


def list_clips(folder: Path) -> None:
    """Read metadata. Raises UsageError as `read_corpus`, AssertionError for what no recipe may be given."""
    corpus = read_corpus(folder)
    assert corpus.clips
    assert len({clip.id for clip in corpus.clips}) == len(corpus.clips)
    assert {clip.target for clip in corpus.clips} == set(range(len(corpus.class_names)))
    assert all(clip.path.parent == folder / "audio" and clip.path.is_file() for clip in corpus.clips)
    assert all(corpus.class_names[clip.target] == clip.label for clip in corpus.clips)


def outcomes(cases: int, seed: int, make_case: Callable[[random.Random], Callable[[], None]]) -> dict:
    """How many cases were read and refused, and the faults with the number of the case that showed them."""
    found, faults = Counter(), []
    for case in range(cases):
        try:
            make_case(random.Random(f"{seed} {case}"))()
            found["read"] += 1
        except UsageError as error:
            found["refused" if str(error).count("\n") == 0 else "told in several lines"] += 1
        except Exception as error:
            faults.append(f"case {case}: {type(error).__name__}: {error}"[:200])
    return {"cases": cases, **dict(sorted(found.items())), "faults": faults}


def fuzz(cases: int, seed: int, base: Path) -> dict[str, dict]:
    """The outcomes for sounds and for metadata."""
    files = [encoded(kind=kind)() for kind in KINDS]
    good = files[0]
    folder = make(base / "set", rows(), dict.fromkeys(("a.wav", "b.wav", "c.wav"), good))

    def sound(rng: random.Random) -> Callable[[], None]:
        path = base / "sound.wav"
        path.write_bytes(mutated(rng.choice(files), rng))
        return lambda: hear(path)

    def table(rng: random.Random) -> Callable[[], None]:
        (folder / "meta" / "mine.csv").write_bytes(mutated(rows(), rng))
        return lambda: list_clips(folder)

    return {"sounds": outcomes(cases, seed, sound), "tables": outcomes(cases, seed, table)}


def main(arguments: list[str]) -> None:
    """Entry point; see the module's docstring."""
    parser = argparse.ArgumentParser(prog="python -m tools.fuzz", description=__doc__.splitlines()[0])
    parser.add_argument("--cases", type=int, default=20000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as base:
        found = fuzz(options.cases, options.seed, Path(base))
    write_atomically(options.out, (json.dumps(found, indent=1) + "\n").encode())
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    entry(main)
