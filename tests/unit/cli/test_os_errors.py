from __future__ import annotations

import errno
from pathlib import Path

import pytest

from wrn.cli import main
from wrn.cli.os_errors import flag_of, sentence


@pytest.mark.parametrize(
    ("path", "arguments", "flag"),
    [
        ("/a/b/c", ["--output-dir", "/a/b"], "--output-dir"),
        ("/a/b", ["--output_dir=/a/b"], "--output-dir"),
        ("/a/b", ["--output-dir", '"/a/b"'], "--output-dir"),
        ("/a/bc", ["--output-dir", "/a/b"], None),
        ("/a/b/c", ["--data-dir", "/a", "--output-dir", "/a/b", "--tta"], "--output-dir"),
        ("runs/x", ["--output-dir", "runs"], "--output-dir"),
        ("runs/x", ["--data-dir", ".", "--epochs", "3"], None),
        (".", ["--data-dir", "."], "--data-dir"),
        ("/home/me/x/y", ["--data-dir=~/x"], "--data-dir"),
        ("/a", ["--data-dir=~nobody-here/x"], None),
    ],
)
def test_the_flag_that_gave_a_path(
    path: str, arguments: list[str], flag: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    assert flag_of(path, arguments) == flag


def test_which_errors_are_the_users() -> None:
    given = ["--output-dir", "/a"]
    gone, denied = errno.ENOENT, errno.EACCES
    assert "--output-dir: /a/x" in str(sentence(OSError(gone, "gone", "/a/x"), given))
    assert "/b/x: " in str(sentence(OSError(denied, "denied", "/b/x"), given))
    assert "--output-dir: /a/x" in str(sentence(OSError(denied, "denied", b"/a/x"), given))
    assert sentence(OSError(gone, "gone", "/b/x"), given) is None
    assert sentence(OSError(denied, "denied"), given) is None
    assert sentence(OSError(denied, "denied", 3), given) is None


@pytest.mark.parametrize(("path", "code"), [("given/file", 2), ("elsewhere", 1)])
def test_an_error_of_the_system_at_the_edge(
    path: str, code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(arguments: list[str]) -> int:
        raise FileNotFoundError(errno.ENOENT, "No such file or directory", str(tmp_path / path))

    monkeypatch.setattr("wrn.cli.config.main", fail)
    assert main(["config", "--data-dir", str(tmp_path / "given")]) == code
    error = capsys.readouterr().err
    assert ("Traceback" in error) is (code == 1)
    assert ("--data-dir" in error) is (code == 2)
