from __future__ import annotations

import contextlib
import hashlib
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import requests
from filelock import FileLock

from wrn.data import download
from wrn.data.download import Archive, Unreachable, fetch
from wrn.errors import DataError

CONTENT = bytes(range(256)) * 4000
MD5 = hashlib.md5(CONTENT).hexdigest()


class Server:
    """Serves CONTENT, modified by its tricks; `asked` keeps (path, Range) of each request."""

    def __init__(self) -> None:
        self.tricks: dict[str, Callable[[BaseHTTPRequestHandler], None]] = {}
        self.asked: list[tuple[str, str | None]] = []
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                server.asked.append((self.path, self.headers.get("Range")))
                with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                    server.tricks.get(self.path, whole_or_rest)(self)

            def log_message(self, *ignored: object) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}"
        threading.Thread(target=self.http.serve_forever, args=(0.01,), daemon=True).start()

    def archive(self, *paths: str) -> Archive:
        return Archive("x.tar.gz", MD5, tuple(self.url + path for path in paths))


def send(handler: BaseHTTPRequestHandler, status: int, body: bytes, **headers: str) -> None:
    handler.send_response(status)
    for name, value in {"Content-Length": str(len(body)), **headers}.items():
        handler.send_header(name.replace("_", "-"), value)
    handler.end_headers()
    handler.wfile.write(body)


def offset(handler: BaseHTTPRequestHandler) -> int:
    asked = handler.headers.get("Range")
    return int(asked.removeprefix("bytes=").rstrip("-")) if asked else 0


def whole_or_rest(handler: BaseHTTPRequestHandler) -> None:
    start = offset(handler)
    if start >= len(CONTENT):
        send(handler, 416, b"")
    else:
        send(handler, 206 if start else 200, CONTENT[start:])


def no_ranges(handler: BaseHTTPRequestHandler) -> None:
    send(handler, 200, CONTENT)


def breaks(after: int) -> Callable[[BaseHTTPRequestHandler], None]:
    """Sends this many of the requested bytes, then closes the connection."""

    def trick(handler: BaseHTTPRequestHandler) -> None:
        start = offset(handler)
        handler.send_response(206 if start else 200)
        handler.send_header("Content-Length", str(len(CONTENT) - start))
        handler.end_headers()
        handler.wfile.write(CONTENT[start : start + after])
        handler.wfile.flush()
        handler.close_connection = True

    return trick


def trickles(handler: BaseHTTPRequestHandler) -> None:
    start = offset(handler)
    handler.send_response(206 if start else 200)
    handler.send_header("Content-Length", str(len(CONTENT) - start))
    handler.end_headers()
    for begin in range(start, len(CONTENT), 50_000):
        handler.wfile.write(CONTENT[begin : begin + 50_000])
        handler.wfile.flush()
        time.sleep(0.05)


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.http.shutdown()
    server.http.server_close()


def part(directory: Path) -> Path:
    return directory / ".x.tar.gz.part"


def test_downloads_once_and_reports_progress(server: Server, tmp_path: Path) -> None:
    seen: list[tuple[int, int | None]] = []
    for _ in range(2):
        path = fetch(server.archive("/a"), tmp_path / "new", on_progress=lambda *facts: seen.append(facts))
        assert path.read_bytes() == CONTENT
    assert server.asked == [("/a", None)]
    assert seen[-1] == (len(CONTENT), len(CONTENT))
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    assert not part(path.parent).exists()


def test_resumes_an_interrupted_download(server: Server, tmp_path: Path) -> None:
    tmp_path /= "new"
    server.tricks["/a"] = breaks(after=600_000)
    with pytest.raises(Unreachable, match=r"the connection broke after \d+ of 1024000 bytes"):
        fetch(server.archive("/a"), tmp_path)
    kept = part(tmp_path).stat().st_size
    assert 0 < kept <= 600_000
    del server.tricks["/a"]
    assert fetch(server.archive("/a"), tmp_path).read_bytes() == CONTENT
    assert server.asked[-1] == ("/a", f"bytes={kept}-")


def test_the_mirror_resumes_where_the_first_url_failed(server: Server, tmp_path: Path) -> None:
    server.tricks["/a"] = breaks(after=600_000)
    assert fetch(server.archive("/a", "/b"), tmp_path).read_bytes() == CONTENT
    assert server.asked[1][0] == "/b"
    assert server.asked[1][1] is not None


def test_a_server_that_cannot_resume_does_not_lose_the_partial_download(server: Server, tmp_path: Path) -> None:
    part(tmp_path).write_bytes(CONTENT[:900_000])
    server.tricks["/a"] = lambda handler: send(handler, 200, CONTENT[:500_000], Content_Length=str(len(CONTENT)))
    with pytest.raises(Unreachable):
        fetch(server.archive("/a"), tmp_path, timeout_s=0.3)
    assert part(tmp_path).read_bytes() == CONTENT[:900_000]
    server.tricks["/a"] = no_ranges
    assert fetch(server.archive("/a"), tmp_path).read_bytes() == CONTENT


@pytest.mark.parametrize("beginning", [b"something else", b"x" * len(CONTENT), CONTENT + b"more"])
def test_a_wrong_partial_download_is_dropped_and_started_over(server: Server, tmp_path: Path, beginning: bytes) -> None:
    part(tmp_path).write_bytes(beginning)
    assert fetch(server.archive("/a"), tmp_path).read_bytes() == CONTENT


def test_a_complete_part_file_needs_no_bytes(server: Server, tmp_path: Path) -> None:
    part(tmp_path).write_bytes(CONTENT)
    assert fetch(server.archive("/a"), tmp_path).read_bytes() == CONTENT
    assert server.asked == [("/a", f"bytes={len(CONTENT)}-")]


def test_a_file_declared_as_compressed_in_transit_is_not_decompressed(server: Server, tmp_path: Path) -> None:
    server.tricks["/a"] = lambda handler: send(handler, 200, CONTENT, Content_Encoding="gzip")
    assert fetch(server.archive("/a"), tmp_path).read_bytes() == CONTENT


def test_other_content_is_never_accepted_as_the_archive(server: Server, tmp_path: Path) -> None:
    server.tricks["/a"] = lambda handler: send(handler, 200, b"<html>log in here</html>")
    server.tricks["/b"] = lambda handler: send(handler, 404, b"")
    with pytest.raises(Unreachable) as caught:
        fetch(server.archive("/a", "/b"), tmp_path)
    text = str(caught.value)
    assert "/a: sent a different file" in text
    assert "/b: HTTP 404" in text
    assert "--data-dir" in text
    assert not (tmp_path / "x.tar.gz").exists()
    assert fetch(server.archive("/a", "/c"), tmp_path).read_bytes() == CONTENT


def test_a_slow_url_is_retried_after_the_others(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "SLOW_SECONDS", 0.15)
    monkeypatch.setattr(download, "SLOW_BYTES", 10_000_000)
    monkeypatch.setattr(download, "BLOCK", 1 << 14)
    server.tricks["/slow"] = trickles
    server.tricks["/gone"] = lambda handler: send(handler, 404, b"")
    assert fetch(server.archive("/slow", "/gone"), tmp_path).read_bytes() == CONTENT
    assert [path for path, _ in server.asked] == ["/slow", "/gone", "/slow"]


def test_a_limit_on_the_total_time(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "BLOCK", 1 << 14)
    server.tricks["/a"] = trickles
    with pytest.raises(Unreachable, match="took too long"):
        fetch(server.archive("/a"), tmp_path, limit_s=0.3)
    assert CONTENT.startswith(part(tmp_path).read_bytes())
    assert fetch(server.archive("/b"), tmp_path).read_bytes() == CONTENT


def test_the_limit_includes_waiting_for_another_process(server: Server, tmp_path: Path) -> None:
    with FileLock(tmp_path / ".x.tar.gz.lock"), pytest.raises(Unreachable, match="downloaded by another process"):
        fetch(server.archive("/a"), tmp_path, limit_s=0.2)
    assert server.asked == []
    assert fetch(server.archive("/a"), tmp_path, limit_s=60).read_bytes() == CONTENT


def test_a_process_that_never_finishes_is_reported(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "LONGEST_WAIT_S", 0.2)
    with (
        FileLock(tmp_path / ".x.tar.gz.lock"),
        pytest.raises(DataError, match="for an hour; stop that process") as caught,
    ):
        fetch(server.archive("/a"), tmp_path)
    assert not isinstance(caught.value, Unreachable)


def test_a_silent_server(server: Server, tmp_path: Path) -> None:
    given_up, over = threading.Event(), threading.Event()
    waited: list[bool] = []

    def silent(handler: BaseHTTPRequestHandler) -> None:
        waited.append(given_up.wait(60))
        over.set()

    server.tricks["/a"] = silent
    with pytest.raises(Unreachable):
        fetch(server.archive("/a"), tmp_path, timeout_s=0.2)
    given_up.set()
    assert over.wait(60)
    assert waited == [True], "it waited for as long as the server was silent"


def test_no_server(tmp_path: Path) -> None:
    with pytest.raises(Unreachable) as caught:
        fetch(Archive("x.tar.gz", MD5, ("http://127.0.0.1:9/x",)), tmp_path / "mistyped/deep")
    assert list(tmp_path.iterdir()) == []
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


def test_two_processes_download_once(server: Server, tmp_path: Path) -> None:
    server.tricks["/a"] = lambda handler: (time.sleep(0.2), whole_or_rest(handler))[1]
    with ThreadPoolExecutor(4) as pool:
        paths = list(pool.map(lambda _: fetch(server.archive("/a"), tmp_path), range(4)))
    assert len(server.asked) == 1
    assert {path.read_bytes() for path in paths} == {CONTENT}


def test_a_full_disk_is_not_a_network_problem(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: Path, *arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "open", full)
    with pytest.raises(DataError, match=r"No space left on device.*free some space") as caught:
        fetch(server.archive("/a"), tmp_path)
    assert not isinstance(caught.value, Unreachable)


def test_a_folder_that_is_a_file(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="cannot be written"):
        fetch(server.archive("/a"), tmp_path / "file")


def test_a_proxy_that_inspects_tls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object, **__: object) -> None:
        raise requests.exceptions.SSLError("[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed")

    monkeypatch.setattr(requests, "get", refused)
    with pytest.raises(Unreachable, match="REQUESTS_CA_BUNDLE"):
        fetch(Archive("x.tar.gz", MD5, ("https://example.com/x",)), tmp_path)
