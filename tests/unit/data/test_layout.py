"""Which files of an image folder are read, and what is said of the others."""

from __future__ import annotations

import os
import unicodedata
from pathlib import Path

import pytest

from data_files import write_pictures
from wrn.data.layout import Listing, list_pictures, list_test_pictures
from wrn.errors import DataError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_pictures(tmp_path / "D", each=2)


def names(folder: Path, listing: Listing, label: int = 0) -> list[str]:
    """The training images with this label, below their class folder."""
    found = [path for path, given in listing.train if given == label]
    return [path.relative_to(folder / "train" / listing.classes[label]).as_posix() for path in found]


def test_links_to_folders_and_files_are_followed(folder: Path, tmp_path: Path) -> None:
    write_pictures(tmp_path / "E", each=3)
    (folder / "train/cat/more").symlink_to(tmp_path / "E/train/cat")
    (folder / "train/cat/x.png").symlink_to(tmp_path / "E/train/dog/0.png")
    (folder / "train/eel").symlink_to(tmp_path / "E/train/dog")
    listing = list_pictures(folder)
    assert names(folder, listing) == ["0.png", "1.png", "more/0.png", "more/1.png", "more/2.png", "x.png"]
    assert (listing.classes, names(folder, listing, 2)) == (("cat", "dog", "eel"), ["0.png", "1.png", "2.png"])
    assert listing.remarks == ()


def test_links_in_a_circle(folder: Path) -> None:
    (folder / "train/cat/above").symlink_to(folder / "train")
    (folder / "train/cat/self").symlink_to(folder / "train/cat")
    (folder / "train/dog/a").mkdir()
    (folder / "train/dog/b").mkdir()
    (folder / "train/dog/a/b").symlink_to("../b")
    (folder / "train/dog/b/a").symlink_to("../a")
    (folder / "train/dog/b/x.png").touch()
    listing = list_pictures(folder)
    assert len(names(folder, listing, 1)) == 3, "no image counts twice"
    (remark,) = listing.remarks
    assert "links to a folder that was read already" in remark


def test_a_link_to_itself(folder: Path) -> None:
    (folder / "train/cat/x").symlink_to("x")
    with pytest.raises(DataError, match="train/cat/x: cannot be read"):
        list_pictures(folder)


@pytest.mark.parametrize("name", ["x.png", "more"])
@pytest.mark.parametrize("part", ["train/cat", "test/dog", "train"])
def test_links_to_nothing_are_refused(name: str, part: str, folder: Path) -> None:
    (folder / part / name).symlink_to("/nowhere/at/all")
    with pytest.raises(DataError, match=f"{part}/{name}: is a link to /nowhere/at/all, which is not there"):
        list_pictures(folder)


def test_a_folder_below_that_cannot_be_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    closed, really = folder / "train/cat/closed", os.scandir
    closed.mkdir()

    def scan(path: str | Path) -> object:
        if Path(path) == closed:
            raise PermissionError(13, "Permission denied", str(path))
        return really(path)

    monkeypatch.setattr("os.scandir", scan)
    with pytest.raises(DataError, match="train/cat/closed: cannot be read \\(Permission denied\\)"):
        list_pictures(folder)


@pytest.mark.parametrize("suffix", [".jfif", ".jpe", ".JPG", ".Jpeg", ".tif"])
def test_other_extensions_of_images(suffix: str, folder: Path) -> None:
    (folder / "train/cat" / f"x{suffix}").touch()
    listing = list_pictures(folder)
    assert f"x{suffix}" in names(folder, listing)
    assert listing.remarks == ()


def test_what_is_ignored_is_counted(folder: Path) -> None:
    for name in ("a.heic", "b.HEIC", "c.heic", "d.txt", "e.txt", "f", "g.csv", "h.xml", ".hidden", "deep/.DS_Store"):
        path = folder / "train/cat" / name
        path.parent.mkdir(exist_ok=True)
        path.touch()
    (folder / "train/labels.csv").touch()
    os.mkfifo(folder / "test/cat/pipe.png")
    (remark,) = list_pictures(folder).remarks
    counts = "3 .heic, 2 .txt, 1 without an extension, 2 of other kinds, 2 hidden, 1 beside the class folders, 1 not a"
    assert sorted(remark.partition(" (read")[0].removeprefix("ignored: ").split(", ")) == sorted(
        f"{counts} file".split(", ")
    )
    assert ".png .jpg" in remark


def test_a_class_of_other_files_says_so(folder: Path) -> None:
    (folder / "train/eel").mkdir()
    (folder / "train/eel/x.ppm").touch()
    with pytest.raises(DataError, match=r"train/eel: has no images \(.*; ignored: 1 \.ppm\)"):
        list_pictures(folder)


def test_which_test_folder_is_used_is_said(folder: Path) -> None:
    (folder / "validation").mkdir()
    (folder / "val").mkdir()
    assert list_pictures(folder).remarks == ("the test images are those in test/; val/ and validation/ are not used",)
    (folder / "test").rename(folder / "valid")
    (folder / "val").rmdir()
    listing = list_pictures(folder)
    assert listing.test[0][0] == folder / "valid/cat/0.png"
    assert listing.remarks == ("the test images are those in valid/; validation/ is not used",)


def test_both_unicode_spellings_of_a_name_are_one_class(tmp_path: Path) -> None:
    short, long = (unicodedata.normalize(form, "café") for form in ("NFC", "NFD"))
    folder = write_pictures(tmp_path, (short, "zoo"))
    (folder / "test" / short).rename(folder / "test" / long)
    other = write_pictures(tmp_path / "other", (long,), each=1)
    (other / "train" / long).rename(folder / "train" / long)
    listing = list_pictures(folder)
    assert listing.classes == (short, "zoo")
    assert [label for _, label in listing.train].count(0) == 4
    assert [label for _, label in listing.test].count(0) == 3
    assert [label for _, label in list_test_pictures(folder, ("zoo", long)).test] == [1, 1, 1, 0, 0, 0]


def test_the_test_images_alone(folder: Path) -> None:
    (folder / "train").rename(folder / "elsewhere")
    listing = list_test_pictures(folder, ("dog", "ape", "cat"))
    assert [label for _, label in listing.test] == [2, 2, 0, 0]
    assert (listing.train, listing.remarks) == ([], (f"{folder / 'test'} has no images of ape",))
    with pytest.raises(DataError, match="is one split"):
        list_test_pictures(folder / "test", ("dog", "cat"))
    with pytest.raises(DataError, match="no folder train/"):
        list_pictures(folder)
