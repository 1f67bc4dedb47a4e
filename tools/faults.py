"""A corpus of bad data: every fault is made, read as a recipe would read it, and its outcome held against its rule.

    python -m tools.faults --out=docs/results/reliability/data.json

`SOUNDS` and `TABLES` are what the tests and the table of docs/reliability.md rest on.
"""

import io
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import soundfile

from models.errors import UsageError
from recipes.data.clips import ClipStore
from recipes.data.preparation import prepare
from recipes.data.splits import fold_split
from recipes.system.entry import entry
from tools.runner import check_out, save_result, tool_parser

RATE = 16000
SECONDS = 0.25
ByteOrder = Literal["little", "big"]
SIZE_FIELDS: tuple[tuple[str, int, ByteOrder], ...] = (("WAV", 40, "little"), ("AU", 8, "big"))
"""Format, place and byte order of the four bytes that hold the size of the sound."""
HEADER = "filename,fold,target,category,src_file"


@dataclass(frozen=True)
class Sound:
    """A sound file of one fault: `content` (name, bytes); `refusal` is part of the sentence, None where it is read."""

    fault: str
    rule: str
    name: str
    content: Callable[[], bytes]
    refusal: str | None = None


@dataclass(frozen=True)
class Table:
    """A metadata file of one fault, for a folder that holds a.wav, b.wav and c.wav."""

    fault: str
    rule: str
    content: bytes
    refusal: str | None = None


def tone(rate: int, seconds: float = SECONDS, channels: int = 1) -> np.ndarray:
    """1 kHz at half of full scale, [samples, channels]."""
    wave = 0.5 * np.sin(2 * np.pi * 1000 * np.arange(round(rate * seconds)) / rate)
    return np.repeat(wave[:, None], channels, axis=1)


def encoded(
    wave: np.ndarray | None = None, rate: int = RATE, kind: str = "WAV", subtype: str | None = None, keep: float = 1.0
) -> Callable[[], bytes]:
    """Bytes of a sound file, cut to a fraction of its length."""

    def make() -> bytes:
        stream = io.BytesIO()
        soundfile.write(stream, tone(rate) if wave is None else wave, rate, format=kind, subtype=subtype)
        return stream.getvalue()[: round(keep * len(stream.getvalue()))]

    return make


def _with(value: float) -> np.ndarray:
    wave = tone(RATE)
    wave[100] = value
    return wave


def _hour() -> bytes:
    return encoded(np.tile(tone(8000, 1.0), (3600, 1)), 8000, subtype="PCM_U8")()


def _resized(kind: str, place: int, size: int, order: ByteOrder = "little") -> Callable[[], bytes]:
    """Bytes of a sound file whose header gives another size of its sound."""

    def make() -> bytes:
        content = encoded(kind=kind)()
        return content[:place] + size.to_bytes(4, order) + content[place + 4 :]

    return make


def _flac_stream() -> bytes:
    """A FLAC whose 36 bits of length, the last of 64 at byte 18, are 0."""
    content = encoded(kind="FLAC")()
    field = int.from_bytes(content[18:26], "big") >> 36 << 36
    return content[:18] + field.to_bytes(8, "big") + content[26:]


CUT = "a file shorter than its header says is refused"
LENGTH = "length is what decodes, whatever a header gives; a disagreement is told"
CONTENT = "the content decides how a file is read, not its name"
NAMES = "any printable name of at most 200 bytes is taken as it is"
SOUNDS = (
    *(
        Sound(
            f"{kind} {subtype} cut at {keep:.0%}",
            CUT,
            f"cut.{kind.lower()}",
            encoded(None, RATE, kind, subtype, keep),
            "is cut off|cannot be decoded",
        )
        for kind, subtype in (
            ("WAV", "PCM_16"),
            ("WAV", "FLOAT"),
            ("RF64", "PCM_16"),
            ("W64", "PCM_16"),
            ("AIFF", "PCM_16"),
            ("AU", "PCM_16"),
            ("FLAC", "PCM_16"),
            ("OGG", "VORBIS"),
        )
        for keep in (0.3, 0.9)
    ),
    *(
        Sound(f"{kind} whose size is {size}", LENGTH, f"{size}.{kind.lower()}", _resized(kind, place, size, order))
        for kind, place, order in SIZE_FIELDS
        for size in (0, 4000)
    ),
    Sound("FLAC without a length", LENGTH, "stream.flac", _flac_stream),
    Sound("zero bytes", "what is no sound file is refused", "empty.wav", lambda: b"", "cannot be decoded"),
    Sound(
        "text renamed .wav",
        "what is no sound file is refused",
        "text.wav",
        lambda: b"no sound\n" * 99,
        "cannot be decoded",
    ),
    Sound("raw samples", "what is no sound file is refused", "raw.raw", lambda: bytes(999), "cannot be decoded"),
    Sound("FLAC named .wav", CONTENT, "flac.wav", encoded(kind="FLAC")),
    Sound("WAV named .ogg", CONTENT, "wav.ogg", encoded()),
    *(
        Sound(f"{subtype} samples", "every sample format is read", f"{subtype}.wav", encoded(subtype=subtype))
        for subtype in ("PCM_U8", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ULAW")
    ),
    Sound(
        "NaN", "NaN and infinite samples are refused", "nan.wav", encoded(_with(np.nan), subtype="FLOAT"), "holds NaN"
    ),
    Sound(
        "infinity",
        "NaN and infinite samples are refused",
        "inf.wav",
        encoded(_with(-np.inf), subtype="FLOAT"),
        "holds NaN",
    ),
    *(
        Sound(f"{count} channels", "channels are averaged", f"{count}.wav", encoded(tone(RATE, SECONDS, count)))
        for count in range(1, 9)
    ),
    *(
        Sound(f"{rate} Hz", "every rate from 1 to 384 kHz is resampled", f"{rate}.wav", encoded(rate=rate))
        for rate in (8000, 11025, 22050, 44100, 48000, 96000, 192000)
    ),
    Sound("a rate of 1 Hz", "other rates are refused", "slow.wav", encoded(tone(RATE), 1), "1 Hz"),
    Sound(
        "no samples", "a sound without samples is refused", "none.wav", encoded(np.zeros((0, 1))), "holds no samples"
    ),
    Sound("one sample", "a short sound is padded with zeros at its end", "one.wav", encoded(np.ones((1, 1)))),
    Sound("an hour", "of a long sound the start is kept, the rest is read and checked", "hour.wav", _hour),
    *(
        Sound(f"name {name!r}", NAMES, name, encoded())
        for name in (
            "Käuzchen 鳥.wav",
            "<img src=x onerror=alert(1)>.wav",
            "$(touch ran).wav",
            "; rm -rf x.wav",
            "-rf.wav",
            "%s%n.wav",
            "'\".wav",
            "=1+1.wav",
            "a b&amp;c.wav",
            "$x^{2.wav",
            "CON.wav",
            "a..wav",
        )
    ),
    *(
        Sound(
            f"name {name!r}", "names that lead out of the folder are refused", name, encoded(), "lead to another folder"
        )
        for name in ("../a.wav", "/etc/passwd", "..", "a/../b.wav", "a\\b.wav", "")
    ),
    Sound(
        "name 'a/b.wav'",
        "a name may have sub-folders that are there",
        "a/b.wav",
        encoded(),
        "that are not in",
    ),
    *(
        Sound(fault, "names that cannot be printed or are longer are refused", name, encoded(), "cannot be printed")
        for fault, name in (
            ("name with a line break", "a\nb.wav"),
            ("name with an escape", "a\x1b[2J.wav"),
            ("name of 204 bytes", "x" * 200 + ".wav"),
        )
    ),
)


def rows(*lines: str, header: str = HEADER, newline: str = "\n", encoding: str = "utf-8") -> bytes:
    """A metadata file; without lines, a valid one of three clips in three folds."""
    lines = lines or ("a.wav,1,0,dog,1", "b.wav,2,1,cat,2", "c.wav,3,0,dog,3")
    return (newline.join([header, *lines]) + newline).encode(encoding)


SPREADSHEETS = "what spreadsheets and programs leave in a table is read for what it means"
ONCE = "a target has one category and a category one target"
TABLES = (
    Table("none", "", rows()),
    Table("byte order mark", "a byte order mark is skipped", rows(encoding="utf-8-sig")),
    Table("CRLF lines", "any line end is read", rows(newline="\r\n")),
    Table("old Macintosh lines", "any line end is read", rows(newline="\r")),
    Table(
        "more columns",
        "other columns are left aside",
        rows("a.wav,1,0,dog,1,x", "b.wav,2,1,cat,2,y", "c.wav,3,0,dog,3,z", header=HEADER + ",take"),
    ),
    Table("empty rows", SPREADSHEETS, rows() + b",,,,\n\n,,,,\n"),
    Table(
        "columns without a name",
        SPREADSHEETS,
        rows("a.wav,1,0,dog,1,,", "b.wav,2,1,cat,2,,", "c.wav,3,0,dog,3,,", header=HEADER + ",,"),
    ),
    Table("column names in capitals and with spaces", SPREADSHEETS, rows(header=HEADER.upper().replace(",", " , "))),
    Table(
        "folds and targets as 1.0", SPREADSHEETS, rows("a.wav,1.0,0.0,dog,1", "b.wav,2.0,1.0,cat,2", "c.wav,3,0,dog,3")
    ),
    Table("spaces around values", SPREADSHEETS, rows("a.wav , 1,0 , dog,1", "b.wav,2,1,cat ,2", " c.wav,3,0,dog,3")),
    Table(
        "a column twice",
        "a column is named once",
        rows("a.wav,1,0,dog,1,2", header=HEADER + ",fold"),
        "columns ['fold'] twice",
    ),
    Table("UTF-16", "metadata is UTF-8", rows(encoding="utf-16"), "is not a CSV file in UTF-8"),
    Table(
        "Latin-1", "metadata is UTF-8", rows("a.wav,1,0,Käuzchen,1", encoding="latin-1"), "is not a CSV file in UTF-8"
    ),
    Table("semicolons", "columns are separated by commas", rows().replace(b",", b";"), "lacks the columns"),
    Table("tabs", "columns are separated by commas", rows().replace(b",", b"\t"), "save it with commas"),
    Table("no rows", "a table lists clips", (HEADER + "\n").encode(), "lists no clips"),
    Table(
        "a field missing", "a row has a field for each column", rows("a.wav,1,0"), "too many or too few fields: rows 2"
    ),
    Table(
        "a field too many", "a row has a field for each column", rows("a.wav,1,0,dog,1,9"), "too many or too few fields"
    ),
    Table("a row twice", "a clip has one row", rows("a.wav,1,0,dog,1", "a.wav,2,0,dog,1"), "1 clips given twice: a"),
    Table("a row without its file", "a row names a file", rows("a.wav,1,0,dog,1", "gone.wav,1,0,dog,2"), "gone.wav"),
    Table(
        "a file without a row",
        "files without a row are left out with a warning",
        rows("a.wav,1,0,dog,1", "b.wav,2,1,cat,2"),
    ),
    Table("a row whose file has capitals", "a row names a file", rows("A.wav,1,0,dog,1"), "A.wav (there is a.wav)"),
    Table("a fold of 1.5", "folds and targets are integers", rows("a.wav,1.5,0,dog,1"), "'1.5' (a.wav)"),
    Table("a fold that is no integer", "folds and targets are integers", rows("a.wav,one,0,dog,1"), "'one' (a.wav)"),
    Table(
        "a target of 5000 digits",
        "folds and targets are integers",
        rows("a.wav,1," + "9" * 5000 + ",dog,1"),
        "targets that are no integers",
    ),
    Table("no category", "a clip has a category", rows("a.wav,1,0, ,1"), "clips without a category: a.wav"),
    Table(
        "a category with an escape",
        "categories can be printed",
        rows("a.wav,1,0,do\x1b[2Jg,1"),
        "categories that cannot be printed",
    ),
    Table("one target, two categories", ONCE, rows("a.wav,1,0,dog,1", "b.wav,2,0,cat,2"), "0 (cat, dog)"),
    Table("one target spelt twice, two categories", ONCE, rows("a.wav,1,1,dog,1", "b.wav,2,01,cat,2"), "1 (cat, dog)"),
    Table("one category, two targets", ONCE, rows("a.wav,1,0,dog,1", "b.wav,2,1,dog,2"), "dog (0, 1)"),
    Table(
        "a recording in two splits",
        "clips of one recording and class stay in one split",
        rows("a.wav,1,0,dog,77", "b.wav,2,1,cat,2", "c.wav,3,0,dog,77"),
        "77 (dog)",
    ),
    Table(
        "all at once",
        "every fault is named in one sentence",
        rows("a.wav,x,0,dog,1", "a.wav,2,y,dog,1", "gone.wav,3,0,cat,3"),
        "clips given twice: a; 1 folds that are no integers: 'x'",
    ),
)


def make(folder: Path, table: bytes, sounds: dict[str, bytes]) -> Path:
    """A data folder with this metadata and these files; a name that no file system takes stands in the table only."""
    (folder / "meta").mkdir(parents=True)
    (folder / "audio").mkdir()
    (folder / "meta" / "mine.csv").write_bytes(table)
    for name, content in sounds.items():
        if name not in ("", "..") and not set(name) & set("/\\"):
            (folder / "audio" / name).write_bytes(content)
    return folder


def read(folder: Path, cache: Path) -> ClipStore:
    """The data as a recipe would take it; folds 1, 2 and 3, where it has them, train, validate and test."""
    store = prepare(folder, cache, RATE, SECONDS, workers=1)
    if store.corpus.folds == (1, 2, 3):
        fold_split(store.corpus, [1], [2], [3])
    return store


def read_sound(sound: Sound, base: Path) -> ClipStore:
    """A set of a good clip, the faulty one, and another good one. Raises UsageError as `prepare`."""
    quoted = '"' + sound.name.replace('"', '""') + '"'
    table = rows("a.wav,1,0,dog,1", f"{quoted},2,1,cat,2", "c.wav,3,0,dog,3")
    good = encoded()()
    files = {"a.wav": good, sound.name: sound.content(), "c.wav": good}
    return read(make(base / "data", table, files), base / "cache")


def read_table(table: Table, base: Path) -> ClipStore:
    """Three good clips under faulty metadata. Raises UsageError as `prepare`."""
    files = dict.fromkeys(("a.wav", "b.wav", "c.wav"), encoded()())
    return read(make(base / "data", table.content, files), base / "cache")


def outcome(reader: Callable, fault: Sound | Table) -> dict:
    """The fault, its rule and what happened: "read" or "refused"; anything else is a fault of this project."""
    with tempfile.TemporaryDirectory() as base:
        try:
            store = reader(fault, Path(base))
            finite = all(np.isfinite(store.waveform(i)).all() for i in range(len(store)))
            happened = "read" if finite else "read with samples that are not finite"
        except UsageError:
            happened = "refused"
        except Exception as error:
            happened = type(error).__name__
    expected = "read" if fault.refusal is None else "refused"
    return {"fault": fault.fault, "rule": fault.rule, "outcome": happened, "as_ruled": happened == expected}


def main(arguments: list[str]) -> None:
    """Entry point; see the module's docstring. Prints the faults that did not meet their rule."""
    out = tool_parser("faults", __doc__).parse_args(arguments).out
    check_out(out)
    outcomes = {
        "sounds": [outcome(read_sound, sound) for sound in SOUNDS],
        "tables": [outcome(read_table, table) for table in TABLES[1:]],
    }
    save_result(outcomes, out)
    for part in outcomes.values():
        for case in part:
            if not case["as_ruled"]:
                print(case)


if __name__ == "__main__":
    entry(main)
