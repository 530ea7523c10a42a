from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from data_files import accept_stand_ins, archive_bytes, write_archive, write_folder, write_pictures
from tiny import tiny_dataset
from wrn.data import locate
from wrn.data.cifar import Found
from wrn.data.download import Unreachable
from wrn.data.sources import open_dataset
from wrn.errors import DataError


class Network:
    """Stands for `fetch`: delivers the stand-in archive, or fails."""

    def __init__(self) -> None:
        self.error: DataError | None = None
        self.asked: list[tuple[str, Path, dict[str, Any]]] = []

    def __call__(self, archive: Any, directory: Path, **keys: Any) -> Path:
        self.asked.append((archive.name, directory, keys))
        if self.error:
            raise self.error
        directory.mkdir(parents=True, exist_ok=True)
        form = {"cifar-100-python.tar.gz": "cifar-100-python", "cifar-10-python.tar.gz": "cifar-10-batches-py"}
        (directory / archive.name).write_bytes(archive_bytes(form[archive.name]))
        return directory / archive.name


@pytest.fixture(autouse=True)
def network(monkeypatch: pytest.MonkeyPatch) -> Network:
    accept_stand_ins(monkeypatch)
    network = Network()
    monkeypatch.setattr(locate, "fetch", network)
    monkeypatch.setattr("wrn.data.synthetic.make_synthetic", tiny_dataset)
    return network


def test_only_the_given_folder_is_searched(network: Network, tmp_path: Path) -> None:
    write_archive(tmp_path / "elsewhere", "cifar-100-python")
    write_folder(tmp_path / "named", "cifar-100-binary")
    dataset = open_dataset("cifar100", data_dir=tmp_path / "named", search=[tmp_path / "elsewhere"])
    assert dataset.origin == str(tmp_path / "named/cifar-100-binary")
    with pytest.raises(DataError, match="CIFAR-100 is not in"):
        open_dataset("cifar100", data_dir=tmp_path / "empty", search=[tmp_path / "elsewhere"], download=False)
    assert network.asked == []


def test_search_in_order(tmp_path: Path, network: Network) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    write_archive(second, "cifar-100-python")
    assert open_dataset("auto", data_dir=None, search=[first, second]).origin == str(second / "cifar-100-python.tar.gz")
    write_folder(first, "cifar-100-python")
    assert open_dataset("auto", data_dir=None, search=[first, second]).origin == str(first / "cifar-100-python")
    assert network.asked == []


@pytest.mark.parametrize(("name", "classes"), [("cifar100", 5), ("cifar10", 5), ("auto", 5)])
def test_missing_data_is_downloaded_once(name: str, classes: int, tmp_path: Path, network: Network) -> None:
    for _ in range(2):
        dataset = open_dataset(name, data_dir=None, search=[tmp_path / "data"])
    assert dataset.num_classes == classes
    assert dataset.name == name.replace("auto", "cifar100")
    assert len(network.asked) == 1
    assert network.asked[0][1] == tmp_path / "data"
    limits = {"timeout_s": 5.0, "limit_s": 180.0} if name == "auto" else {}
    assert network.asked[0][2] == {"on_progress": None, **limits}


def test_a_download_goes_to_a_writable_folder(tmp_path: Path, network: Network) -> None:
    (tmp_path / "file").touch()
    open_dataset("cifar100", data_dir=None, search=[tmp_path / "file/below", tmp_path / "data"])
    assert network.asked[0][1] == tmp_path / "data"
    with pytest.raises(DataError, match="cannot write to"):
        open_dataset("cifar100", data_dir=tmp_path / "file/below")
    with pytest.raises(DataError, match=r"not in any given folder.*--data-dir"):
        open_dataset("cifar100", data_dir=None)


def test_auto_uses_the_synthetic_set_only_without_a_network(tmp_path: Path, network: Network) -> None:
    network.error = Unreachable("nobody answers")
    dataset = open_dataset("auto", data_dir=None, search=[tmp_path])
    assert torch.equal(dataset.train.images, tiny_dataset().train.images)
    assert "CIFAR-100 is not in" in dataset.origin
    with pytest.raises(DataError, match=r"is not in .*, and nobody answers"):
        open_dataset("cifar100", data_dir=None, search=[tmp_path])
    network.error = DataError("the disk is full")
    with pytest.raises(DataError, match="the disk is full"):
        open_dataset("auto", data_dir=None, search=[tmp_path])
    network.error = None
    write_folder(tmp_path, "cifar-100-python").joinpath("train").write_bytes(b"damaged")
    with pytest.raises(DataError, match="train is altered"):
        open_dataset("auto", data_dir=None, search=[tmp_path])


def test_an_unknown_name(tmp_path: Path, network: Network) -> None:
    with pytest.raises(DataError, match='dataset: "noise" is not known; give --dataset cifar100'):
        open_dataset("noise", data_dir=None, search=[tmp_path])
    assert network.asked == []


def test_downloads_can_be_switched_off(tmp_path: Path, network: Network) -> None:
    with pytest.raises(DataError, match="allow --download"):
        open_dataset("cifar10", data_dir=None, search=[tmp_path], download=False)
    assert "downloads are off" in open_dataset("auto", data_dir=None, search=[tmp_path], download=False).origin
    assert network.asked == []


def test_pictures(tmp_path: Path) -> None:
    write_pictures(tmp_path / "mine")
    assert open_dataset("folder", data_dir=tmp_path / "mine").classes == ("cat", "dog")
    assert open_dataset("folder", data_dir=None, search=[tmp_path, tmp_path / "mine"]).name == "folder"
    with pytest.raises(DataError, match="--data-dir"):
        open_dataset("folder", data_dir=None, search=[tmp_path])
    with pytest.raises(DataError, match="none: there is no such folder; give the folder that holds train/<class>/"):
        open_dataset("folder", data_dir=tmp_path / "none")
    with pytest.raises(DataError, match=r"0\.png: is a file; give the folder"):
        open_dataset("folder", data_dir=tmp_path / "mine/train/cat/0.png")
    with pytest.raises(DataError, match="no folder train/"):
        open_dataset("folder", data_dir=tmp_path)


def test_test_pictures_to_score_a_model_on(tmp_path: Path) -> None:
    write_pictures(tmp_path / "mine")
    shutil.rmtree(tmp_path / "mine/train")
    for keys in ({"data_dir": tmp_path / "mine"}, {"data_dir": None, "search": [tmp_path, tmp_path / "mine"]}):
        dataset = open_dataset("folder", classes=("dog", "cat"), **keys)
        assert dataset.test.labels.tolist() == [1, 1, 1, 0, 0, 0]
    with pytest.raises(DataError, match="no folder with test/<class>/"):
        open_dataset("folder", classes=("dog", "cat"), data_dir=None, search=[tmp_path])


@pytest.mark.real_data
def test_the_real_cifar100(real_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    dataset = open_dataset("cifar100", data_dir=real_data, download=False)
    monkeypatch.setattr(Found, "load", lambda found: pytest.fail("it is decoded again"))
    again = open_dataset("cifar100", data_dir=real_data, download=False)
    assert torch.equal(dataset.train.images, again.train.images)
    for split, each in ((again.train, 500), (again.test, 100)):
        assert split.labels.bincount().tolist() == [each] * 100
    assert again.classes[:3] == ("apple", "aquarium_fish", "baby")
    assert again.superclasses[again.superclass_of[0]] == "fruit_and_vegetables"
    assert [again.superclass_of.count(number) for number in range(20)] == [5] * 20
    assert again.mean == pytest.approx((0.5071, 0.4865, 0.4409), abs=1e-4)
    assert again.std == pytest.approx((0.2673, 0.2564, 0.2762), abs=1e-4)
