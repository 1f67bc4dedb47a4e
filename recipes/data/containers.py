"""Sound files whose headers say another length than they hold: where the sound lies, and how to decode all of it.

libsndfile believes the length that a header gives. It is handed the file with that one number corrected instead, as a
`PatchedFile`, so that decoding ends where the content does. What the header said is kept for comparison.
"""

import io
import os
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import soundfile

UNKNOWN_SIZE = 0xFFFFFFFF
LARGEST_SIZE = 0x7FFFF000
"""From here on, a 32-bit size says that the writer did not know it, as streams do."""

SECTOR = 512
"""Fewer bytes than this after the sound are padding, whatever they hold."""

MP3_SLACK = 3 * 1152
"""Samples by which an MP3 decodes to more than its tag says, since the encoder's padding is not cut off."""

_MP3_FRAMES = 0x0FFFFFFF
_MPEG_1 = 3
_MP3_BITRATE = 64000
_MP3_BITRATE_INDEX = {True: 5, False: 8}
_TAGS = (b"ID3", b"TAG", b"APETAGEX")


class PatchedFile(io.RawIOBase):
    """A part of a file, read as if some of its bytes were others. Nothing is copied.

    Arguments
    ---------
    path: the file. patches: new bytes by their offset in the file; their number stays.
    start, stop: the part, in bytes from the file's beginning; None: to its end. prefix: bytes put before it.
    """

    def __init__(
        self,
        path: Path,
        patches: Mapping[int, bytes] | None = None,
        start: int = 0,
        stop: int | None = None,
        prefix: bytes = b"",
    ):
        super().__init__()
        self._file = path.open("rb")
        self._patches, self._prefix, self._start = dict(patches or {}), prefix, start
        end = os.fstat(self._file.fileno()).st_size
        self._size = len(prefix) + (end if stop is None else min(stop, end)) - start
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        origin = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        self._position = max(0, origin + offset)
        return self._position

    def readinto(self, buffer) -> int:
        view = memoryview(buffer).cast("B")
        wanted = max(0, min(len(view), self._size - self._position))
        content = bytearray(self._prefix[self._position : self._position + wanted])
        if len(content) < wanted:
            offset = self._position + len(content) - len(self._prefix) + self._start
            self._file.seek(offset)
            body = bytearray(self._file.read(wanted - len(content)))
            for place, patch in self._patches.items():
                for number, byte in enumerate(patch):
                    if 0 <= place + number - offset < len(body):
                        body[place + number - offset] = byte
            content += body
        view[: len(content)] = content
        self._position += len(content)
        return len(content)

    def close(self) -> None:
        self._file.close()
        super().close()


@dataclass(frozen=True)
class Container:
    """How to decode a file to its end.

    parts: paths or open files, whose sounds follow each other. declared: samples that the header promises, where that
    is to be compared with what decodes; None: nothing to compare. slack: samples by which more may decode without a
    disagreement; they are cut off. remark: what is wrong with the header, "" where nothing is known.
    """

    parts: tuple[Path | PatchedFile, ...]
    declared: int | None = None
    slack: int = 0
    remark: str = ""

    @property
    def gives_length(self) -> bool:
        """Whether the header gives the length, as far as one can tell without decoding all of the file."""
        return len(self.parts) == 1 and (isinstance(self.parts[0], Path) or self.declared is not None)

    def close(self) -> None:
        """Close the files that were opened to look."""
        for part in self.parts:
            if isinstance(part, PatchedFile):
                part.close()


def inspect(path: Path) -> Container:
    """Look at a file's beginning and choose how to decode it; a format that is not known here is left to libsndfile."""
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(12)
        if start[:4] in (b"RIFF", b"RIFX") and start[8:] == b"WAVE":
            return _chunked(path, file, size, "<" if start[:4] == b"RIFF" else ">", b"data", 0)
        if start[:4] == b"FORM" and start[8:] in (b"AIFF", b"AIFC"):
            return _chunked(path, file, size, ">", b"SSND", 8)
        if start[:4] in (b".snd", b"dns."):
            return _sun(path, file, size, ">" if start[:4] == b".snd" else "<")
        if start[:4] == b"fLaC":
            return _flac(path, file)
        if start[:4] == b"OggS":
            return _ogg(path, file, size)
        if start[:3] == b"ID3" or (start[:1] == b"\xff" and len(start) > 1 and start[1] & 0xE6 == 0xE2):
            return _mp3(path, file)
    return Container((path,))


def _chunked(path: Path, file: io.BufferedReader, size: int, order: str, name: bytes, head: int) -> Container:
    """WAV and AIFF: chunks of a name, a 32-bit size and content, one of which is the sound.

    head: bytes at the start of that chunk that are no sound.
    """
    place = _find_chunk(file, size, order, name)
    if place is None:
        return Container((path,))
    file.seek(place + 4)
    declared, held = struct.unpack(order + "I", file.read(4))[0], size - place - 8
    if declared >= LARGEST_SIZE:
        return Container((path,))
    counts_header = declared > held and declared in (size, size - 8)
    after = place + 8 + declared + declared % 2
    if not counts_header and (declared > held or not _is_sound(file, after, size, order)):
        return Container((path,))
    corrected = struct.pack(order + "I", min(held, LARGEST_SIZE))
    remark = f"its header gives {max(0, declared - head)} bytes of sound and it holds {held - head}: all of it is used"
    return Container((PatchedFile(path, {place + 4: corrected}),), remark=remark)


def _find_chunk(file: io.BufferedReader, size: int, order: str, name: bytes) -> int | None:
    """Offset of the chunk of that name; None where the chain of chunks does not lead to one."""
    place = 12
    while place + 8 <= size:
        file.seek(place)
        chunk, length = struct.unpack(order + "4sI", file.read(8))
        if chunk == name:
            return place
        place += 8 + length + length % 2
    return None


def _is_sound(file: io.BufferedReader, place: int, size: int, order: str) -> bool:
    """Whether what follows the declared end is sound: neither chunks, nor a tag, nor zeros that fill a sector."""
    if size - place < SECTOR:
        return False
    file.seek(place)
    start = file.read(8)
    if start.startswith(_TAGS) or _are_chunks(file, place, size, order):
        return False
    file.seek(place)
    while block := file.read(1 << 20):
        if block.count(0) < len(block):
            return True
    return False


def _are_chunks(file: io.BufferedReader, place: int, size: int, order: str) -> bool:
    """Whether the file goes on with chunks of printable names up to its end."""
    while place + 8 <= size:
        file.seek(place)
        name, length = struct.unpack(order + "4sI", file.read(8))
        is_printable = name.isascii() and name.decode("ascii").isprintable()
        if not is_printable or place + 8 + length > size:
            return False
        place += 8 + length + length % 2
    return True


def _sun(path: Path, file: io.BufferedReader, size: int, order: str) -> Container:
    """AU: the sound is all that follows the header; a size of 2^32 - 1 says that the writer did not know it."""
    file.seek(4)
    header = file.read(8)
    if len(header) < 8:
        return Container((path,))
    place, declared = struct.unpack(order + "II", header)
    if declared >= size - place or not _is_sound(file, place + declared, size, order):
        return Container((path,))
    remark = f"its header gives {declared} bytes of sound and it holds {size - place}: all of it is used"
    return Container((PatchedFile(path, {8: struct.pack(order + "I", UNKNOWN_SIZE)}),), remark=remark)


def _flac(path: Path, file: io.BufferedReader) -> Container:
    """FLAC: the lowest 36 of 64 bits at byte 18 are the number of samples, 0 where the writer did not know it."""
    file.seek(18)
    field = int.from_bytes(file.read(8), "big")
    declared = field & (1 << 36) - 1
    without_length = (field - declared).to_bytes(8, "big")
    return Container((PatchedFile(path, {18: without_length}),), declared or None)


def _ogg(path: Path, file: io.BufferedReader, size: int) -> Container:
    """Ogg: several streams may follow each other, as web radios write them; libsndfile reads the first alone."""
    starts, place, begins, ends = [], 0, False, True
    while place + 27 <= size:
        file.seek(place)
        head = file.read(27)
        if head[:4] != b"OggS":
            break
        segments = file.read(head[26])
        previous_begins, begins, ends = begins, bool(head[5] & 2), bool(head[5] & 4)
        if begins and not previous_begins:
            starts.append(place)
        place += 27 + len(segments) + sum(segments)
    remark = "" if ends else "its last page is missing: it may be cut off"
    if len(starts) < 2:
        return Container((path,), remark=remark)
    parts = []
    for start, stop in pairwise([*starts, size]):
        parts.append(PatchedFile(path, start=start, stop=stop))
    return Container(tuple(parts), remark=remark)


def _mp3(path: Path, file: io.BufferedReader) -> Container:
    """MP3: without a tag in its first frame, or with a wrong one, libsndfile stops at a guess of the length.

    The tag's number of frames is raised, or a tag is put before the first frame, so that decoding ends at the last.
    """
    first = _first_mp3_frame(file)
    if first is None:
        return Container((path,))
    file.seek(first)
    frame = file.read(64)
    version, mono = frame[1] >> 3 & 3, frame[3] >> 6 == 3
    tag = 4 + _side_information(version == _MPEG_1, mono)
    raised = _MP3_FRAMES.to_bytes(4, "big")
    tagged = frame[tag : tag + 4] in (b"Xing", b"Info") and frame[tag + 7] & 1
    if tagged:
        whole = PatchedFile(path, {first + tag + 8: raised})
        return Container((whole,), soundfile.info(str(path)).frames, MP3_SLACK)
    prefix = bytearray(_mp3_frame_length(frame))
    prefix[:4] = _tag_header(frame)
    prefix[tag : tag + 12] = b"Xing" + (1).to_bytes(4, "big") + raised
    return Container((PatchedFile(path, start=first, prefix=bytes(prefix)),))


def _first_mp3_frame(file: io.BufferedReader) -> int | None:
    """Offset of the first frame of MPEG layer III after an ID3v2 tag; None where none begins within 64 kB."""
    file.seek(0)
    head, start = file.read(10), 0
    if head[:3] == b"ID3" and len(head) == 10:
        tag_size = 0
        for byte in head[6:]:  # each holds seven bits
            tag_size = tag_size << 7 | byte & 0x7F
        start = 10 + tag_size
    file.seek(start)
    content = file.read(1 << 16)
    for place in range(len(content) - 64):
        if content[place] == 0xFF and _is_layer_3(content[place : place + 4]):
            return start + place
    return None


def _is_layer_3(header: bytes) -> bool:
    synchronised = header[1] & 0xE6 == 0xE2 and header[1] >> 3 & 3 != 1
    return synchronised and header[2] >> 4 not in (0, 15) and header[2] >> 2 & 3 != 3


def _side_information(mpeg_1: bool, mono: bool) -> int:
    """Bytes between a frame's header and its sound, where an encoder's tag begins."""
    return (17 if mono else 32) if mpeg_1 else (9 if mono else 17)


def _tag_header(frame: bytes) -> bytes:
    """The header of a frame of 64 kbit/s, without checksum and padding, that fits to the stream of `frame`."""
    bitrate = _MP3_BITRATE_INDEX[frame[1] >> 3 & 3 == _MPEG_1]
    return bytes([0xFF, frame[1] | 1, bitrate << 4 | frame[2] & 0x0C, frame[3]])


def _mp3_frame_length(frame: bytes) -> int:
    """Bytes of a frame of 64 kbit/s at the sample rate of `frame`."""
    version = frame[1] >> 3 & 3
    rate = (44100, 48000, 32000)[frame[2] >> 2 & 3] // {3: 1, 2: 2, 0: 4}[version]
    samples = 1152 if version == _MPEG_1 else 576
    return samples // 8 * _MP3_BITRATE // rate
