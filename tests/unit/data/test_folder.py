from __future__ import annotations

import shutil
import threading
import time
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from data_files import write_pictures
from wrn.data.folder import load_folder
from wrn.data.pictures import read_picture
from wrn.errors import DataError


def refusal(directory: Path) -> str:
    with pytest.raises(DataError) as caught:
        load_folder(directory)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_class_folders_become_a_data_set(tmp_path: Path) -> None:
    write_pictures(tmp_path, ("dog", "cat", "Ape"))
    dataset = load_folder(tmp_path)
    assert dataset.classes == ("Ape", "cat", "dog")
    assert dataset.train.labels.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert torch.equal(dataset.train.images[3], read_picture(tmp_path / "train/cat/0.png"))
    assert torch.equal(dataset.test.images[8], read_picture(tmp_path / "test/dog/2.png"))
    scaled = dataset.train.images.double() / 255
    assert dataset.mean == pytest.approx(scaled.mean((0, 2, 3)).tolist())
    assert dataset.std == pytest.approx(scaled.std((0, 2, 3), unbiased=False).tolist())


def test_changes_are_seen_through_the_cache(tmp_path: Path) -> None:
    write_pictures(tmp_path)
    assert len(load_folder(tmp_path).train) == 6
    shutil.copy(tmp_path / "train/cat/0.png", tmp_path / "train/dog/new.PNG")
    dataset = load_folder(tmp_path)
    assert dataset.train.labels.tolist() == [0, 0, 0, 1, 1, 1, 1]
    shutil.copy(tmp_path / "train/cat/1.png", tmp_path / "test/dog/0.png")
    assert torch.equal(load_folder(tmp_path).test.images[3], dataset.train.images[1])


def test_hidden_files_are_skipped_and_nested_ones_are_not(tmp_path: Path) -> None:
    write_pictures(tmp_path)
    (tmp_path / "train/cat/._0.png").write_bytes(b"of a Mac")
    for folder in ("train/.ipynb_checkpoints", "train/cat/.thumbs", "train/cat/deeper"):
        (tmp_path / folder).mkdir()
        shutil.copy(tmp_path / "train/cat/0.png", tmp_path / folder / "x.png")
    (tmp_path / "train/notes.txt").touch()
    dataset = load_folder(tmp_path)
    assert dataset.classes == ("cat", "dog")
    assert len(dataset.train) == 7


@pytest.mark.parametrize("name", ["val", "valid", "validation"])
def test_other_names_for_the_test_folder(name: str, tmp_path: Path) -> None:
    write_pictures(tmp_path)
    (tmp_path / "test").rename(tmp_path / name)
    assert len(load_folder(tmp_path).test) == 6


def test_invalid_layouts(tmp_path: Path) -> None:
    assert "has no folder train/" in refusal(tmp_path)
    (tmp_path / "train").mkdir()
    assert "has no folder test/" in refusal(tmp_path)
    (tmp_path / "test").mkdir()
    assert "has 0 class folders" in refusal(tmp_path)
    shutil.rmtree(tmp_path)
    write_pictures(tmp_path, ("cat",))
    assert "has 1 class folders" in refusal(tmp_path)
    write_pictures(tmp_path, ("dog", "eel", "fox"))
    for name in ("dog", "eel"):
        shutil.rmtree(tmp_path / "train" / name)
    assert "classes that train lacks (dog, eel)" in refusal(tmp_path)
    (tmp_path / "train/dog").mkdir()
    (tmp_path / "train/eel").mkdir()
    assert f"{tmp_path / 'train/dog'}: has no images" in refusal(tmp_path)


@pytest.mark.parametrize("part", ["train", "test"])
def test_one_split_for_the_folder_of_both(part: str, tmp_path: Path) -> None:
    write_pictures(tmp_path)
    expected = f"{tmp_path / part}: is one split of the pictures; give the folder of both, {tmp_path}"
    assert refusal(tmp_path / part) == expected


def test_no_test_pictures(tmp_path: Path) -> None:
    write_pictures(tmp_path)
    for path in (tmp_path / "test").rglob("*.png"):
        path.unlink()
    assert "test: has no images" in refusal(tmp_path)


def test_broken_images_are_named_or_skipped(tmp_path: Path) -> None:
    write_pictures(tmp_path, each=5)
    for name in ("train/cat/1.png", "train/cat/2.png", "train/dog/0.png", "train/dog/1.png", "train/dog/3.png"):
        (tmp_path / name).write_bytes(b"\x89PNG\r\n\x1a\n broken")
    (tmp_path / "test/cat/4.png").write_bytes(b"broken")
    text = refusal(tmp_path)
    assert text.startswith(f"{tmp_path / 'train/cat/1.png'}: cannot be read as an image")
    assert "--skip-broken (and 5 more: " in text
    assert "dog/1.png, ..." in text
    dataset = load_folder(tmp_path, skip_broken=True)
    assert dataset.origin == f"{tmp_path}, broken and skipped: 5 in the training split, 1 in the test split"
    assert dataset.train.labels.tolist() == [0, 0, 0, 1, 1]
    assert dataset.test.labels.tolist() == [0, 0, 0, 0, 1, 1, 1, 1, 1]
    for path in (tmp_path / "test").rglob("*.png"):
        path.write_bytes(b"broken")
    with pytest.raises(DataError, match=r"test/cat/0\.png: cannot be .* nor can any other in its split"):
        load_folder(tmp_path, skip_broken=True)


def test_reading_large_images_in_threads_restores_the_warning_filters(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_pictures(tmp_path, each=1)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 400)  # each has 600
    really, lock, both, arrived = Image.open, threading.Lock(), threading.Barrier(2, timeout=30), []

    def overlapping(*arguments: Any, **keys: Any) -> Any:
        """The first two start together, and the first ends first."""
        with lock:
            arrived.append(None)
            number = len(arrived)
        if number <= 2:
            both.wait()
            time.sleep(0.3 * (number - 1))
        return really(*arguments, **keys)

    monkeypatch.setattr(Image, "open", overlapping)
    before = list(warnings.filters)
    assert len(load_folder(tmp_path).train) == 2
    assert warnings.filters == before


def test_a_folder_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_pictures(tmp_path)

    def refuse(path: Path) -> object:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "iterdir", refuse)
    assert refusal(tmp_path) == f"{tmp_path / 'train'}: cannot be read (Permission denied); fix that"


def test_broken_images_that_were_skipped_once_are_named_again(tmp_path: Path) -> None:
    """The cache without the broken images is not used for all of them."""
    write_pictures(tmp_path)
    (tmp_path / "train/cat/1.png").write_bytes(b"broken")
    assert len(load_folder(tmp_path, skip_broken=True).train) == 5
    assert "cannot be read as an image" in refusal(tmp_path)
