"""The data set as files for a channel: what training would find, under a key derived from its content."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

import pytest

from data_files import accept_stand_ins, write_archive, write_folder, write_pictures
from wrn.aws.s3.dataset_files import find_parcel, official_key
from wrn.config.layers import resolve
from wrn.config.schema import Config
from wrn.data.layout import list_pictures
from wrn.data.locate import OutOfReach
from wrn.errors import DataError


@pytest.fixture(autouse=True)
def _stand_ins(monkeypatch: pytest.MonkeyPatch) -> None:
    accept_stand_ins(monkeypatch)


def config(**flags: object) -> Config:
    return resolve(None, flags).config


def test_an_archive_by_its_md5(tmp_path: Path) -> None:
    path = write_archive(tmp_path, "cifar-100-python")
    parcel = find_parcel(config(), [tmp_path / "none", tmp_path])
    assert parcel.files == (("cifar-100-python.tar.gz", path),)
    assert parcel.key == hashlib.md5(path.read_bytes()).hexdigest()
    assert parcel.size == path.stat().st_size
    parcel.check()
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(DataError, match="truncated or damaged"):
        find_parcel(config(), [tmp_path]).check()


def test_a_folder_keeps_its_name_in_the_channel(tmp_path: Path) -> None:
    folder = write_folder(tmp_path, "cifar-100-binary")
    (folder / "notes.txt").touch()
    parcel = find_parcel(config(dataset="auto"), [tmp_path])
    names = {"train.bin", "test.bin", "fine_label_names.txt", "coarse_label_names.txt"}
    assert {name for name, _ in parcel.files} == {f"cifar-100-binary/{name}" for name in names}
    parcel.check()
    (folder / "train.bin").write_bytes(b"damaged")
    altered = find_parcel(config(), [tmp_path])
    assert altered.key != parcel.key
    with pytest.raises(DataError, match=r"train\.bin is altered"):
        altered.check()
    (folder / "train.bin").unlink()
    with pytest.raises(DataError, match=r"train\.bin: is missing"):
        find_parcel(config(), [tmp_path])


def test_pictures_of_ones_own(tmp_path: Path) -> None:
    write_pictures(tmp_path / "mine")
    (tmp_path / "mine/train/notes.txt").touch()
    parcel = find_parcel(config(dataset="folder", data_dir=str(tmp_path / "mine")), [])
    assert len(parcel.files) == 12
    assert ("train/cat/0.png", tmp_path / "mine/train/cat/0.png") in parcel.files
    moved = (tmp_path / "mine").rename(tmp_path / "elsewhere")
    assert find_parcel(config(dataset="folder", data_dir=str(moved)), []).key == parcel.key
    with pytest.raises(DataError, match="--data-dir"):
        find_parcel(config(dataset="folder"), [tmp_path])


def test_names_that_are_not_utf8(tmp_path: Path) -> None:
    """An object's key is UTF-8. A job lists the class under the name that it has here."""
    write_pictures(tmp_path, ("caf\udce9", "dog"), each=1)
    parcel = find_parcel(Config(dataset="folder", data_dir=tmp_path), [])
    assert {name for name, _ in parcel.files} >= {r"train/caf\xe9/0.png", "test/dog/0.png"}
    assert all(path.exists() for _, path in parcel.files)
    assert list_pictures(tmp_path).classes == (r"caf\xe9", "dog")


def test_what_is_not_sent_is_said_and_what_cannot_be_read_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_pictures(tmp_path)
    (folder / "train/notes.txt").touch()
    (folder / "train/cat/x.heic").touch()
    (folder / "val").mkdir()
    settings = config(dataset="folder", data_dir=str(folder))
    first, second = find_parcel(settings, []).remarks
    assert "val/ is not used" in first
    assert ("1 .heic" in second, "1 beside the class folders" in second) == (True, True)

    def refuse(path: Path, mode: str) -> object:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(DataError, match=r"\.png: cannot be read \(Permission denied\)"):
        find_parcel(settings, [])


def test_nowhere(tmp_path: Path) -> None:
    for dataset in ("auto", "cifar10"):
        with pytest.raises(OutOfReach, match="or allow --download"):
            find_parcel(config(dataset=dataset), [tmp_path], download=False)
    assert official_key(config()) == "eb9058c3a382ffc7106e4002c42a8d85"
    assert official_key(config(dataset="folder")) == ""


def test_finding_needs_no_torch() -> None:
    modules = "wrn.aws.s3.dataset_files, wrn.aws.jobs.launch, wrn.data.locate, wrn.data.layout"
    code = f"import sys, {modules}; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
