from __future__ import annotations

import gzip
import io
import os
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch

from data_files import COARSE, FINE, accept_stand_ins, archive_bytes, members, pixels, write_archive, write_folder
from wrn.data import cifar
from wrn.data.cifar import FORMS, find_cifar
from wrn.data.dataset import Dataset
from wrn.errors import DataError

CIFAR100 = ("cifar-100-python", "cifar-100-binary")
CIFAR10 = ("cifar-10-batches-py", "cifar-10-batches-bin")


@pytest.fixture(autouse=True)
def _stand_ins(monkeypatch: pytest.MonkeyPatch) -> None:
    accept_stand_ins(monkeypatch)


def load(dataset: str, directory: Path) -> Dataset:
    found = find_cifar(dataset, directory)
    assert found is not None
    return found.load()


def refusal(dataset: str, directory: Path) -> str:
    with pytest.raises(DataError) as caught:
        load(dataset, directory)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("form", CIFAR100)
@pytest.mark.parametrize("kind", ["folder", "inside the folder", "archive", "the archive's path", "packed again"])
def test_cifar100_in_all_forms(form: str, kind: str, tmp_path: Path) -> None:
    place = tmp_path
    if "folder" in kind:
        folder = write_folder(tmp_path, form)
        place = folder if kind == "inside the folder" else tmp_path
    else:
        archive = write_archive(tmp_path, form, prefix="./" if kind == "packed again" else "")
        place = archive if kind == "the archive's path" else tmp_path
    dataset = load("cifar100", place)
    assert (len(dataset.train), len(dataset.test)) == (30, 10)
    assert torch.equal(dataset.train.images, torch.from_numpy(pixels(30, 0)).view(30, 3, 32, 32))
    assert torch.equal(dataset.test.labels, torch.arange(10) % 5)
    assert (dataset.classes, dataset.superclasses) == (tuple(FINE), tuple(COARSE))
    assert dataset.superclass_of == (0, 1, 0, 1, 0)


@pytest.mark.parametrize("form", CIFAR10)
@pytest.mark.parametrize("write", [write_folder, write_archive])
def test_cifar10_in_all_forms(form: str, write: object, tmp_path: Path) -> None:
    write(tmp_path, form)  # type: ignore[operator]
    assert find_cifar("cifar100", tmp_path) is None
    dataset = load("cifar10", tmp_path)
    assert (len(dataset.train), len(dataset.test), dataset.classes) == (25, 5, tuple(FINE))
    assert torch.equal(dataset.train.images[5:10].reshape(5, -1), torch.from_numpy(pixels(5, 2)))
    assert dataset.superclass_of == ()


def test_nothing_is_found_in_an_empty_folder(tmp_path: Path) -> None:
    assert find_cifar("cifar100", tmp_path) is None
    assert find_cifar("cifar100", tmp_path / "absent") is None
    (tmp_path / "file").touch()
    assert find_cifar("cifar100", tmp_path / "file") is None


@pytest.mark.parametrize("form", CIFAR100 + CIFAR10)
def test_every_member_is_checked(form: str, tmp_path: Path) -> None:
    dataset = "cifar100" if form in CIFAR100 else "cifar10"
    folder = write_folder(tmp_path, form)
    for name, content in members(form).items():
        altered = bytearray(content)
        altered[len(altered) // 2] ^= 1
        (folder / name).write_bytes(altered)
        assert f"{name} is altered or damaged" in refusal(dataset, tmp_path)
        (folder / name).write_bytes(content[:-3])
        if not name.endswith(".txt"):
            assert f"{name} is altered or damaged" in refusal(dataset, tmp_path)
        (folder / name).unlink()
        assert f"{name} is missing" in refusal(dataset, tmp_path)
        (folder / name).write_bytes(content)
    load(dataset, tmp_path)


@pytest.mark.parametrize("form", CIFAR100)
def test_a_truncated_archive(form: str, tmp_path: Path) -> None:
    path = write_archive(tmp_path, form)
    whole = path.read_bytes()
    for share in (0.0, 0.3, 0.9):
        path.write_bytes(whole[: int(len(whole) * share)])
        assert "is truncated or damaged" in refusal("cifar100", tmp_path)
    path.write_bytes(b"<html>not found</html>")
    assert "is truncated or damaged" in refusal("cifar100", tmp_path)


def test_an_altered_byte_inside_an_archive(tmp_path: Path) -> None:
    path = write_archive(tmp_path, "cifar-100-python")
    content = bytearray(gzip.decompress(path.read_bytes()))
    content[len(content) // 2] ^= 1
    path.write_bytes(gzip.compress(bytes(content)))
    assert "altered or damaged" in refusal("cifar100", tmp_path)


def test_a_member_too_large_is_not_read_into_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_archive(tmp_path, "cifar-100-python")
    monkeypatch.setattr(cifar, "LARGEST_MEMBER", 1000)
    assert "train is altered" in refusal("cifar100", tmp_path)


def test_links_and_paths_in_an_archive_are_not_followed(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(b"x")
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        link = tarfile.TarInfo("cifar-100-python/meta")
        link.type, link.linkname = tarfile.SYMTYPE, str(secret)
        archive.addfile(link)
        escape = tarfile.TarInfo("../escaped")
        escape.size = 1
        archive.addfile(escape, io.BytesIO(b"x"))
    (tmp_path / "data").mkdir()
    (tmp_path / "data/cifar-100-python.tar.gz").write_bytes(buffer.getvalue())
    assert "meta is missing" in refusal("cifar100", tmp_path / "data")
    assert not (tmp_path / "escaped").exists()


def test_a_complete_archive_is_preferred_to_an_incomplete_folder(tmp_path: Path) -> None:
    folder = write_folder(tmp_path, "cifar-100-python")
    (folder / "train").unlink()
    assert "train is missing" in refusal("cifar100", tmp_path)
    (tmp_path / "cifar-100-python.tar.gz").write_bytes(archive_bytes("cifar-100-python"))
    assert len(load("cifar100", tmp_path).train) == 30


def test_a_folder_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path) -> os.stat_result:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "stat", refuse)
    assert "cannot be read (Permission denied)" in refusal("cifar100", tmp_path)


def test_the_files_of_a_form_are_listed(tmp_path: Path) -> None:
    write_folder(tmp_path, "cifar-100-python")
    found = find_cifar("cifar100", tmp_path)
    assert found is not None
    assert {file.name for file in found.files} == set(FORMS[0].md5)


@pytest.mark.parametrize("label", [-1, 5])
def test_a_label_without_a_class_is_refused(label: int) -> None:
    good = (pixels(5, 0), np.arange(5))
    bad = (pixels(5, 1), np.array([0, 1, 2, 3, label]))
    assert len(cifar._dataset("cifar10", "x", {"train": good, "test": good}, FINE).test) == 5
    with pytest.raises(DataError, match="images and labels of test do not match"):
        cifar._dataset("cifar10", "x", {"train": good, "test": bad}, FINE)
