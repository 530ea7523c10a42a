from __future__ import annotations

import io
import sys

import pytest

from dead_streams import DEAD, dead_stream
from wrn.streams import droppable_output, escape_output


@pytest.mark.parametrize("kind", DEAD)
def test_the_streams_of_these_tests_fail(kind: str) -> None:
    with dead_stream(kind) as stream:
        stream.write("x")
        with pytest.raises(OSError, match=r"\[Errno (5|28|32)\]"):
            stream.flush()


@pytest.mark.parametrize("name", ["stdout", "stderr"])
@pytest.mark.parametrize("kind", DEAD)
def test_what_cannot_be_written_is_dropped(kind: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with dead_stream(kind) as dead:
        monkeypatch.setattr(sys, name, dead)
        with droppable_output():
            for _ in range(3):
                getattr(sys, name).write("word " * 9999)
                getattr(sys, name).flush()
        assert getattr(sys, name) is dead
        dead.write("the interpreter's last words")
        dead.flush()


@pytest.mark.parametrize("kind", DEAD)
def test_what_is_still_in_the_buffer_is_dropped_at_the_end(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with dead_stream(kind) as dead:
        monkeypatch.setattr(sys, "stdout", dead)
        with droppable_output():
            sys.stdout.write("short")
        dead.flush()


def test_a_stream_that_works_gets_everything(capfd: pytest.CaptureFixture[str]) -> None:
    with droppable_output():
        sys.stdout.write("one\n")
        sys.stderr.write("two\n")
        assert sys.stdout.encoding
        assert not sys.stdout.isatty()
    assert capfd.readouterr() == ("one\n", "two\n")


def test_a_stream_that_is_no_file_is_left_alone(capsys: pytest.CaptureFixture[str]) -> None:
    before = sys.stdout
    with droppable_output():
        assert sys.stdout is before


@pytest.mark.parametrize(
    ("encoding", "written"),
    [
        ("ascii", r"caf\xe9 \xe9 \u20ac"),
        ("latin-1", "caf\\xe9 \xe9 \\u20ac"),
        ("utf-8", "caf\\xe9 \xe9 \u20ac"),
    ],
)
def test_any_text_can_be_written_in_any_encoding(encoding: str, written: str, monkeypatch: pytest.MonkeyPatch) -> None:
    content = io.BytesIO()
    for name in ("stdout", "stderr"):
        monkeypatch.setattr(sys, name, io.TextIOWrapper(content, encoding=encoding))
    escape_output()
    sys.stdout.write("caf\udce9 \xe9 \u20ac")
    sys.stdout.flush()
    assert content.getvalue().decode(encoding) == written
