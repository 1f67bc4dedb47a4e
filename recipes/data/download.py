"""Fetch ESC-50 when it is not there: a pinned revision, resumed, checked and unpacked safely."""

import hashlib
import logging
import shutil
import stat
import time
import urllib.request
import zipfile
import zlib
from http.client import HTTPException, HTTPResponse
from pathlib import Path, PurePosixPath
from urllib.error import HTTPError

from tqdm import tqdm

from models.errors import UsageError
from recipes.system.files import exclusive_lock

logger = logging.getLogger(__name__)

ESC50_URL = "https://github.com/karolpiczak/ESC-50/archive/33c8ce9eb2cf0b1c2f8bcf322eb349b6be34dbb6.zip"
ESC50_SHA256 = "661183a6f53ef04f12c9bd618fed0ddc1713280d6c94a5a5431e844ba6f6a21f"
"""SHA-256 of the 645 832 161 bytes that GitHub sends for that commit, as several public projects pin it.

GitHub makes such archives on request and promises the same files, not for ever the same bytes: should it
pack them anew, `download_esc50` refuses them, and an archive unpacked by hand serves as `data_folder`.
"""

STAGING = ".download"
CHUNK = 1 << 20


def fetch(url: str, destination: str | Path, sha256: str | None = None, attempts: int = 5, pause: float = 1.0) -> Path:
    """Download `url` to `destination`, which appears only when it is whole and its SHA-256 is right.

    What has arrived is kept in `<destination>.part`; the next attempt, of this run or a later one, asks for
    the rest (HTTP Range) and starts anew where the server cannot. Between attempts it waits `pause` seconds,
    then twice as long each time. (`torch.hub.download_url_to_file` and pooch check hashes, but neither goes on where a
    connection of 600 MB broke, and their errors are tracebacks.)

    Raises UsageError when the address is refused, all attempts fail, or the SHA-256 differs; in the last case
    the file is deleted.
    """
    destination = Path(destination)
    if not url.startswith(("https://", "http://")):
        raise UsageError(f"{url} cannot be downloaded: give an address that begins with https:// or http://.")
    if not destination.exists():
        part = destination.with_name(destination.name + ".part")
        part.parent.mkdir(parents=True, exist_ok=True)
        _fetch_patiently(url, part, attempts, pause)
        part.replace(destination)
    if sha256 is not None:
        _check_sha256(url, destination, sha256)
    return destination


def _fetch_patiently(url: str, part: Path, attempts: int, pause: float) -> None:
    """Complete `part`, trying again when the connection breaks. Raises UsageError as `fetch`."""
    for attempt in range(attempts):
        try:
            _fetch_rest(url, part)
            return
        except (OSError, HTTPException) as error:
            refused = isinstance(error, HTTPError) and error.code < 500 and error.code not in (408, 429)
            if refused or attempt == attempts - 1:
                raise UsageError(
                    f"{url} could not be downloaded ({error}): check the network and run again to go on, "
                    "or put the data there yourself."
                ) from error
            logger.warning("The download stopped (%s): trying again.", error)
            time.sleep(pause * 2**attempt)


def _check_sha256(url: str, path: Path, sha256: str) -> None:
    """Delete a file that is not what was pinned. Raises UsageError then."""
    with path.open("rb") as file:
        actual = hashlib.file_digest(file, "sha256").hexdigest()
    if actual != sha256:
        path.unlink()
        raise UsageError(
            f"{url} has the SHA-256 {actual} and not {sha256}: it was deleted; run again, or unpack "
            "a copy that you trust and point data_folder at it."
        )


def extract_zip(archive: str | Path, folder: str | Path, max_bytes: int = 4_000_000_000) -> None:
    """Unpack a ZIP archive into `folder`, which should be new; members are checked before any is written.

    Raises UsageError when a member has an absolute path or a `..`, is a link or a device, is given twice or
    is encrypted, when the whole would exceed `max_bytes` or the free space, or when the archive is damaged.
    """
    folder = Path(folder)
    try:
        with zipfile.ZipFile(archive) as file:
            members = file.infolist()
            _check_members(Path(archive), members, max_bytes)
            folder.mkdir(parents=True, exist_ok=True)
            needed, free = _unpacked_bytes(members), shutil.disk_usage(folder).free
            if free < needed:
                raise UsageError(
                    f"{archive} unpacks to {needed / 1e6:.0f} MB and {folder} has {free / 1e6:.0f} MB free: make room."
                )
            for member in tqdm(members, "Unpacking", unit="file"):
                target = folder / member.filename
                if member.is_dir():
                    target.mkdir(parents=True, exist_ok=True)
                    continue
                target.parent.mkdir(parents=True, exist_ok=True)
                # reading checks the CRC and stops at the declared size
                with file.open(member) as source, target.open("xb") as sink:
                    shutil.copyfileobj(source, sink, CHUNK)
    except (zipfile.BadZipFile, zlib.error, EOFError, FileExistsError, NotADirectoryError) as error:
        raise UsageError(f"{archive} is damaged ({error}): delete it and run again.") from error


def is_missing(data_folder: str | Path) -> bool:
    """Whether `data_folder` is absent, empty but for hidden files, or holds an unfinished download."""
    data_folder = Path(data_folder)
    if not data_folder.is_dir():
        return not data_folder.exists()
    if (data_folder / STAGING).exists():
        return not (data_folder / "meta").exists()
    return all(entry.name.startswith(".") for entry in data_folder.iterdir())


def download_esc50(data_folder: str | Path, url: str = ESC50_URL, sha256: str | None = ESC50_SHA256) -> None:
    """Put ESC-50 into `data_folder`; do nothing when data is there.

    Everything happens in a hidden folder inside, so that a mounted volume works too. `meta` is moved into
    place last: while it is missing, the next run goes on where this one stopped. Runs that start together
    download once.

    Raises UsageError as `fetch` and `extract_zip`, and when the archive is not laid out like ESC-50.
    """
    data_folder = Path(data_folder)
    with exclusive_lock(data_folder / ".lock"):
        if not is_missing(data_folder):
            return
        logger.warning("Downloading ESC-50 (licence CC BY-NC 3.0, see LICENSE there) to %s.", data_folder)
        staging = data_folder / STAGING
        archive, unpacked = staging / "archive.zip", staging / "unpacked"
        fetch(url, archive, sha256)
        shutil.rmtree(unpacked, ignore_errors=True)
        extract_zip(archive, unpacked)
        roots = list(unpacked.iterdir())
        if len(roots) != 1 or not (roots[0] / "meta").is_dir() or not (roots[0] / "audio").is_dir():
            archive.unlink()
            raise UsageError(f"{url} must hold one folder with meta/ and audio/ in it: it is no ESC-50 archive.")
        for source in sorted(roots[0].iterdir(), key=lambda path: path.name == "meta"):
            _move(source, data_folder / source.name)
        shutil.rmtree(staging)


def _move(source: Path, target: Path) -> None:
    """Rename, replacing what an interrupted move left."""
    if target.is_dir():
        shutil.rmtree(target)
    source.replace(target)


def _fetch_rest(url: str, part: Path) -> None:
    """Append to `part` what it lacks of `url`. Raises OSError or HTTPException when the connection fails."""
    start = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={start}-"} if start else {})
    try:
        response: HTTPResponse = urllib.request.urlopen(request, timeout=30)
    except HTTPError as error:
        if error.code != 416:
            raise
        # the range begins at or after the end: done if this was all of it, else of another file
        if error.headers.get("Content-Range") == f"bytes */{start}":
            return
        part.unlink()
        raise ConnectionError("the partial file does not fit the server's") from error
    with response:
        content_range = response.headers.get("Content-Range", "")
        if response.status != 206:
            start = 0
        elif not content_range.startswith(f"bytes {start}-"):
            raise ConnectionError(f"the server sent another range than bytes {start}-: {content_range!r}")
        length = response.headers.get("Content-Length")
        total = start + int(length) if length else None
        with (
            part.open("ab" if start else "wb") as file,
            tqdm(desc="Downloading", total=total, initial=start, unit="B", unit_scale=True) as progress,
        ):
            while chunk := response.read(CHUNK):
                file.write(chunk)
                progress.update(len(chunk))
    # http.client ends quietly when a connection breaks within a read of a given size
    received = part.stat().st_size
    if total is not None and received != total:
        raise ConnectionError(f"the connection ended after {received} of {total} bytes")


def _check_members(archive: Path, members: list[zipfile.ZipInfo], max_bytes: int) -> None:
    seen = set()
    for member in members:
        name, kind = member.filename, stat.S_IFMT(member.external_attr >> 16)
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts or not path.parts or set(member.orig_filename) & set("\\:\0"):
            fault = "leads out of the folder"
        elif kind not in (0, stat.S_IFREG, stat.S_IFDIR):
            fault = "is a link or a device"
        elif member.flag_bits & 1:
            fault = "is encrypted"
        elif path in seen:
            fault = "is given twice"
        else:
            seen.add(path)
            continue
        raise UsageError(f"{archive} is refused: its member {member.orig_filename!r} {fault}.")
    total = _unpacked_bytes(members)
    if total > max_bytes:
        raise UsageError(f"{archive} is refused: it unpacks to {total} bytes, {max_bytes} are allowed.")


def _unpacked_bytes(members: list[zipfile.ZipInfo]) -> int:
    return sum(member.file_size for member in members)
