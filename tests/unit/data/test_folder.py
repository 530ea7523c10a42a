from __future__ import annotations

import errno
import os
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
from wrn.data.folder import load_folder, load_test_folder
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
    expected = f"{tmp_path / part}: is one split of the pictures; give the folder above it, {tmp_path}"
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
    really, lock, both = Image.open, threading.Lock(), threading.Barrier(2, timeout=30)
    arrived: list[Any] = []

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

    def refuse(path: str | Path) -> object:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("os.scandir", refuse)
    assert (
        refusal(tmp_path)
        == f"{tmp_path / 'train'}: cannot be read (Permission denied); fix that or give another --data-dir"
    )


def test_broken_images_that_were_skipped_once_are_named_again(tmp_path: Path) -> None:
    """The cache without the broken images is not used for all of them."""
    write_pictures(tmp_path)
    (tmp_path / "train/cat/1.png").write_bytes(b"broken")
    assert len(load_folder(tmp_path, skip_broken=True).train) == 5
    assert "cannot be read as an image" in refusal(tmp_path)


def bitmap(path: Path, level: int) -> None:
    """Of one size whatever is on it, and always of the same time."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", (32, 32), level).save(path)
    os.utime(path, (1e9, 1e9))


def test_class_folders_that_exchange_their_names_are_read_again(tmp_path: Path) -> None:
    for part in ("train", "test"):
        bitmap(tmp_path / part / "black/0.bmp", 0)
        bitmap(tmp_path / part / "white/0.bmp", 255)
    assert load_folder(tmp_path).train.images.amax((1, 2, 3)).tolist() == [0, 255]
    for part in ("train", "test"):
        for old, new in (("black", "x"), ("white", "black"), ("x", "white")):
            (tmp_path / part / old).rename(tmp_path / part / new)
    dataset = load_folder(tmp_path)
    assert dataset.train.images.amax((1, 2, 3)).tolist() == [255, 0]
    assert dataset.test.images.amax((1, 2, 3)).tolist() == [255, 0]


@pytest.mark.parametrize("number", [errno.EACCES, errno.EMFILE])
def test_what_could_not_be_opened_once_is_read_the_next_time(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_pictures(tmp_path)
    (tmp_path / "train/dog/2.png").write_bytes(b"broken")
    really, refused = Path.read_bytes, tmp_path / "train/cat/1.png"

    def read(path: Path) -> bytes:
        if path == refused:
            raise OSError(number, os.strerror(number), str(path))
        return really(path)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_bytes", read)
        assert os.strerror(number) in refusal(tmp_path)
        dataset = load_folder(tmp_path, skip_broken=True)
        assert len(dataset.train) == 4
        assert str(refused) in dataset.origin
    dataset = load_folder(tmp_path, skip_broken=True)
    assert dataset.train.labels.tolist() == [0, 0, 0, 1, 1]
    assert str(refused) not in dataset.origin
    monkeypatch.setattr(Path, "read_bytes", lambda path: pytest.fail("it is read again"))
    assert len(load_folder(tmp_path, skip_broken=True).train) == 5


def test_messages(tmp_path: Path) -> None:
    write_pictures(tmp_path)
    (tmp_path / "train/cat/x.heic").touch()
    (tmp_path / "val").mkdir()
    for _ in range(2):
        lines: list[str] = []
        load_folder(tmp_path, on_message=lines.append)
        assert [line.split(":")[0] for line in lines] == ["data", "data", "cache"]
        assert ("val/" in lines[0], "1 .heic" in lines[1]) == (True, True)
        assert str(tmp_path / ".wrn-cache") in lines[2]


def test_the_test_images_alone_by_the_class_names_of_a_model(tmp_path: Path) -> None:
    write_pictures(tmp_path)
    whole = load_folder(tmp_path)
    shutil.rmtree(tmp_path / "train")
    dataset = load_test_folder(tmp_path, ("eel", "dog", "cat"))
    assert dataset.classes == ("eel", "dog", "cat")
    assert dataset.test.labels.tolist() == [2, 2, 2, 1, 1, 1]
    assert torch.equal(dataset.test.images, whole.test.images)
    assert len(dataset.train) == 0
    (tmp_path / "test/dog/0.png").write_bytes(b"broken")
    assert load_test_folder(tmp_path, ("cat", "dog"), skip_broken=True).test.labels.tolist() == [0, 0, 0, 1, 1]
    with pytest.raises(DataError, match=r"does not know \(dog; it knows cat, ape\)"):
        load_test_folder(tmp_path, ("cat", "ape"))


def test_scoring_decodes_no_training_images(tmp_path: Path) -> None:
    write_pictures(tmp_path)
    (tmp_path / "train/dog/2.png").write_bytes(b"broken")
    assert len(load_test_folder(tmp_path, ("cat", "dog")).test) == 6
