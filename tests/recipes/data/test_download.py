"""Downloads against a local HTTP server: resume, refusals, and archives that try to escape."""

import hashlib
import http.server
import io
import stat
import threading
import zipfile
from pathlib import Path

import pytest

from models.errors import UsageError
from recipes.data.download import STAGING, download_esc50, extract_zip, fetch, is_missing

BODY = bytes(range(256)) * 1024
SHA256 = hashlib.sha256(BODY).hexdigest()


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves `server.body`; breaks the connection after each number of bytes in `server.cuts`, once each."""

    def do_GET(self):
        server = self.server
        asked = self.headers.get("Range")
        server.ranges.append(asked)
        if server.failures:
            self.send_error(server.failures.pop(0))
            return
        start = int(asked[len("bytes=") : -1]) if asked and server.resumes else 0
        if start and start >= len(server.body):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(server.body)}")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(server.body) - 1}/{len(server.body)}")
        if server.tells_length:
            self.send_header("Content-Length", str(len(server.body) - start))
        self.end_headers()
        rest = server.body[start:]
        self.wfile.write(rest[: server.cuts.pop(0)] if server.cuts else rest)

    def log_message(self, *_):
        pass


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.body, server.cuts, server.failures, server.ranges = BODY, [], [], []
        server.resumes = server.tells_length = True
        server.url = f"http://127.0.0.1:{server.server_port}/archive.zip"
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def make_zip(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def test_a_download_is_whole_checked_and_not_repeated(server, tmp_path):
    path = fetch(server.url, tmp_path / "new" / "file", SHA256)
    assert path.read_bytes() == BODY
    assert fetch(server.url, path, SHA256).read_bytes() == BODY
    assert server.ranges == [None]
    assert [entry.name for entry in path.parent.iterdir()] == ["file"]


def test_a_cut_connection_is_resumed_where_it_broke(server, tmp_path):
    server.cuts = [1000, 500]
    assert fetch(server.url, tmp_path / "file", SHA256, pause=0).read_bytes() == BODY
    assert server.ranges == [None, "bytes=1000-", "bytes=1500-"]


def test_a_later_run_resumes_the_partial_file(server, tmp_path):
    server.cuts = [1000]
    with pytest.raises(UsageError, match=r"ended after 1000 of 262144 bytes.*run again"):
        fetch(server.url, tmp_path / "file", SHA256, attempts=1)
    assert not (tmp_path / "file").exists()
    assert (tmp_path / "file.part").read_bytes() == BODY[:1000]
    fetch(server.url, tmp_path / "file", SHA256)
    assert server.ranges == [None, "bytes=1000-"]


def test_a_partial_file_that_is_already_whole_is_taken(server, tmp_path):
    (tmp_path / "file.part").write_bytes(BODY)
    assert fetch(server.url, tmp_path / "file", SHA256).read_bytes() == BODY


def test_a_partial_file_longer_than_the_servers_starts_anew(server, tmp_path):
    (tmp_path / "file.part").write_bytes(BODY + b"more")
    assert fetch(server.url, tmp_path / "file", SHA256, pause=0).read_bytes() == BODY
    assert server.ranges == ["bytes=262148-", None]


def test_a_server_without_ranges_starts_anew(server, tmp_path):
    server.resumes = False
    server.cuts = [1000]
    assert fetch(server.url, tmp_path / "file", SHA256, pause=0).read_bytes() == BODY


def test_a_server_that_tells_no_length_is_enough(server, tmp_path):
    server.tells_length = False
    assert fetch(server.url, tmp_path / "file", SHA256).read_bytes() == BODY


def test_server_errors_are_tried_again_and_refusals_are_not(server, tmp_path):
    server.failures = [503, 500]
    fetch(server.url, tmp_path / "file", SHA256, pause=0)
    assert len(server.ranges) == 3
    server.failures = [404]
    with pytest.raises(UsageError, match="HTTP Error 404"):
        fetch(server.url, tmp_path / "other", SHA256, pause=0)
    assert len(server.ranges) == 4


def test_a_wrong_sha256_deletes_the_file(server, tmp_path):
    with pytest.raises(UsageError, match=f"SHA-256 {SHA256} and not {'0' * 64}"):
        fetch(server.url, tmp_path / "file", "0" * 64)
    assert list(tmp_path.iterdir()) == []


def test_only_http_addresses_are_fetched(tmp_path):
    (tmp_path / "secret").write_text("x")
    with pytest.raises(UsageError, match="begins with https"):
        fetch(f"file://{tmp_path / 'secret'}", tmp_path / "file")


@pytest.mark.parametrize("name", ["../evil", "a/../../evil", "/tmp/evil", "a\\..\\evil", "C:evil"])
def test_a_member_that_leads_out_is_refused_before_anything_is_written(tmp_path, name):
    (tmp_path / "a.zip").write_bytes(make_zip({"good": b"1", name: b"2"}))
    with pytest.raises(UsageError, match="leads out of the folder"):
        extract_zip(tmp_path / "a.zip", tmp_path / "out" / "folder")
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.zip"]


def test_a_link_is_refused(tmp_path):
    link = zipfile.ZipInfo("link")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr(link, "/etc")
        archive.writestr("link/passwd", "x")
    with pytest.raises(UsageError, match="'link' is a link or a device"):
        extract_zip(tmp_path / "a.zip", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_archives_too_large_repeated_or_damaged_are_refused(tmp_path):
    archive = tmp_path / "a.zip"
    archive.write_bytes(make_zip({"a": bytes(1000), "b": bytes(1000)}))
    with pytest.raises(UsageError, match="unpacks to 2000 bytes, 1999 are allowed"):
        extract_zip(archive, tmp_path / "out", max_bytes=1999)
    with pytest.warns(UserWarning, match="Duplicate name"), zipfile.ZipFile(archive, "a") as file:
        file.writestr("a", b"again")
    with pytest.raises(UsageError, match="'a' is given twice"):
        extract_zip(archive, tmp_path / "out")
    archive.write_bytes(make_zip({"a": b"some text"}).replace(b"some text", b"same text"))
    with pytest.raises(UsageError, match="damaged"):
        extract_zip(archive, tmp_path / "out")
    archive.write_bytes(b"no archive")
    with pytest.raises(UsageError, match="damaged"):
        extract_zip(archive, tmp_path / "out")


ESC50 = make_zip(
    {
        "ESC-50-33c8ce9/LICENSE": b"CC BY-NC",
        "ESC-50-33c8ce9/audio/1-1-A-0.wav": b"sound",
        "ESC-50-33c8ce9/meta/esc50.csv": b"filename\n",
    }
)


def visible(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.name != ".lock")


def test_esc50_lands_in_an_empty_folder_and_is_not_fetched_again(server, tmp_path):
    server.body = ESC50
    data = tmp_path / "data"
    data.mkdir()
    assert is_missing(data)
    for _ in range(2):
        download_esc50(data, server.url, hashlib.sha256(ESC50).hexdigest())
    assert visible(data) == ["LICENSE", "audio", "audio/1-1-A-0.wav", "meta", "meta/esc50.csv"]
    assert server.ranges == [None]
    assert not is_missing(data)


def test_esc50_goes_on_after_a_kill_between_the_two_moves(server, tmp_path):
    (tmp_path / STAGING).mkdir()
    (tmp_path / STAGING / "archive.zip").write_bytes(ESC50)
    (tmp_path / "audio").mkdir()
    (tmp_path / "audio" / "half.wav").write_bytes(b"")
    assert is_missing(tmp_path)
    download_esc50(tmp_path, server.url, hashlib.sha256(ESC50).hexdigest())
    assert visible(tmp_path) == ["LICENSE", "audio", "audio/1-1-A-0.wav", "meta", "meta/esc50.csv"]
    assert server.ranges == []


def test_a_folder_with_other_files_is_left_alone(server, tmp_path):
    (tmp_path / "thesis.txt").write_text("precious")
    assert not is_missing(tmp_path)
    download_esc50(tmp_path, server.url, None)
    assert visible(tmp_path) == ["thesis.txt"]
    assert server.ranges == []


def test_an_archive_of_something_else_is_refused(server, tmp_path):
    server.body = make_zip({"project/README.md": b"hello"})
    with pytest.raises(UsageError, match="no ESC-50 archive"):
        download_esc50(tmp_path, server.url, None)
    assert is_missing(tmp_path)
