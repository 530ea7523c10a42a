from __future__ import annotations

import errno
import hashlib
import os
from pathlib import Path

import pytest

from wrn.filesystem import exists, file_digest, is_dir, is_file, user_path


def test_what_is_there(tmp_path: Path) -> None:
    file, link, dangling, loop = (tmp_path / name for name in ("file", "link", "dangling", "loop"))
    file.write_text("x", encoding="utf-8")
    link.symlink_to(tmp_path)
    dangling.symlink_to(tmp_path / "nothing")
    loop.symlink_to(loop)
    answers = {path.name: (exists(path), is_file(path), is_dir(path)) for path in (file, link, dangling, loop)}
    assert answers == {
        "file": (True, True, False),
        "link": (True, False, True),
        "dangling": (False, False, False),
        "loop": (False, False, False),
    }
    assert not exists(file / "below a file")
    assert exists(Path("/dev/null"))
    assert not is_file(Path("/dev/null"))


@pytest.mark.parametrize("name", ["a" * 300, "a\0b", "\ud800"])
@pytest.mark.parametrize("ask", [exists, is_file, is_dir])
def test_what_cannot_be_told_is_an_error(ask: object, name: str, tmp_path: Path) -> None:
    assert callable(ask)
    with pytest.raises(OSError, match="name") as caught:
        ask(tmp_path / name)
    assert caught.value.errno in (errno.ENAMETOOLONG, errno.EINVAL)
    assert caught.value.filename == str(tmp_path / name)


def test_no_permission_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path) -> os.stat_result:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(Path, "stat", refuse)
    with pytest.raises(PermissionError):
        exists(Path("x"))
    with pytest.raises(ValueError, match="Permission denied"):
        user_path("x")


def test_paths_that_people_give(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    assert user_path("~/data") == Path("/home/me/data")
    assert user_path("not yet/there") == Path("not yet/there")
    for text, why in (
        ("~nobody-here/x", "no such user"),
        ("a\0b", "no file can have this name"),
        ("a" * 300, "too long"),
    ):
        with pytest.raises(ValueError, match=why):
            user_path(text)


@pytest.mark.parametrize("size", [0, 3, 1 << 19])
def test_digests_of_files(tmp_path: Path, size: int) -> None:
    content = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
    (tmp_path / "file").write_bytes(content)
    assert file_digest(tmp_path / "file", "md5") == hashlib.md5(content).hexdigest()
    assert file_digest(tmp_path / "file", "sha256") == hashlib.sha256(content).hexdigest()
