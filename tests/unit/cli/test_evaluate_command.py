from __future__ import annotations

import io
import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from data_files import write_pictures
from tiny import tiny_dataset
from wrn.cli import main
from wrn.cli.evaluate import difference
from wrn.data.download import ARCHIVES
from wrn.model import ModelInfo, WideResNet, load_model, save_model

NAMES = (r"caf\xe9", "\u20ac")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with an untrained model of cats and dogs, and their images."""
    model = WideResNet(10, 1, 0.0, 2)
    info = ModelInfo(model.architecture, (0.5,) * 3, (0.2,) * 3, ("cat", "dog"), (), (), "folder")
    save_model(tmp_path / "m", model, info)
    write_pictures(tmp_path / "pictures")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def evaluate(*flags: str) -> int:
    return main(["evaluate", "--model-dir", "m", "--device", "cpu", *flags])


def test_how_classes_differ() -> None:
    assert difference("ab", "bc") == "the model does not know c, which the data has, and knows a, which the data lacks"
    assert difference("a", "abcde") == "the model does not know b, c, d, ..., which the data has"
    assert difference("ab", "ba") == "the model has the same classes in a different order"


def test_data_of_other_classes(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_pictures(folder / "others", ("cat", "eel"))
    assert evaluate("--data-dir", "others") == 2
    assert capsys.readouterr().err == (
        "wrn evaluate: others/test: has classes that the model does not know (eel; it knows cat, dog); give the data "
        "it was trained on as --data-dir\n"
    )


def test_data_of_another_name(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    other = replace(tiny_dataset(), name="synthetic")
    monkeypatch.setattr("wrn.data.synthetic.make_synthetic", lambda: other)
    assert evaluate("--dataset", "synthetic") == 2
    assert capsys.readouterr().err.endswith("; omit --dataset: it was trained on folder\n")


def test_no_data(folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Other data would do for training, but not to score a model on."""
    nowhere = replace(ARCHIVES["cifar100"], urls=("http://127.0.0.1:9/x",))
    monkeypatch.setitem(ARCHIVES, "cifar100", nowhere)
    assert evaluate("--dataset", "cifar100") == 2
    assert capsys.readouterr().err.endswith("; copy the archive into a folder yourself and give that as --data-dir\n")
    assert main(["train", "--dataset", "cifar100", "--device", "cpu"]) == 2
    assert capsys.readouterr().err.endswith("give that as --data-dir, or train with --dataset synthetic\n")
    assert {path.name for path in folder.iterdir()} == {"m", "pictures"}


def test_a_broken_image_can_be_skipped(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "pictures/test/cat/0.png").write_text("hello")
    assert evaluate("--data-dir", "pictures") == 2
    assert capsys.readouterr().err.endswith("fix or remove it, or give --skip-broken\n")
    assert evaluate("--data-dir", "pictures", "--skip-broken", "--json") == 0
    assert json.loads(capsys.readouterr().out)["images"] == 5


def test_a_model_that_diverged_has_no_scores(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model, info = load_model(folder / "m")
    torch.nn.init.constant_(model.fc.bias, float("nan"))
    save_model(folder / "m", model, info)
    commands = (
        ["evaluate", "--data-dir", "pictures"],
        ["evaluate", "--data-dir", "pictures", "--json"],
        ["predict", "--json", "pictures/test/cat/0.png"],
    )
    for name, *flags in commands:
        assert main([name, "--model-dir", "m", "--device", "cpu", *flags]) == 2
        told = capsys.readouterr()
        (error,) = [line for line in told.err.splitlines() if not line.startswith("cache: ")]
        assert told.out == ""
        assert error.startswith(f"wrn {name}: m: the network's outputs are not finite")


def test_test_images_without_training_images(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The model's class names say which is which, also where its order is not the alphabet's."""
    shutil.rmtree(folder / "pictures/train")
    (folder / "pictures/test/dog").rename(folder / "pictures/test/bat")
    model = WideResNet(10, 1, 0.0, 3)
    info = ModelInfo(model.architecture, (0.5,) * 3, (0.2,) * 3, ("eel", "cat", "bat"), (), (), "folder")
    save_model(folder / "m", model, info)
    assert evaluate("--data-dir", "pictures", "--json", "--per-class") == 0
    shown = capsys.readouterr()
    figures = json.loads(shown.out)
    assert (figures["images"], figures["per_class"]["eel"]) == (6, None)
    assert "pictures/test has no images of eel" in shown.err
    assert ".wrn-cache" in shown.err


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_any_name_in_any_encoding_of_the_output(encoding: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A class and its images are named in Latin-1 on disk, another class in UTF-8."""
    monkeypatch.chdir(tmp_path)
    model = WideResNet(10, 1, 0.0, 2)
    save_model(Path("m"), model, ModelInfo(model.architecture, (0.5,) * 3, (0.2,) * 3, NAMES, (), (), "folder"))
    write_pictures(Path("pictures"), ("caf\udce9", "\u20ac"), each=1)
    image = Path("pictures/test/caf\udce9/0.png").rename("pictures/test/caf\udce9/\udcff.png")
    shown = {}
    for name, *flags in (
        ["evaluate", "--data-dir", "pictures", "--per-class"],
        ["evaluate", "--data-dir", "pictures", "--per-class", "--json"],
        ["predict", str(image)],
        ["predict", str(image), "--json"],
    ):
        content = io.BytesIO()
        monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(content, encoding=encoding))
        assert main([name, "--model-dir", "m", "--device", "cpu", *flags]) == 0
        sys.stdout.flush()
        shown[name, "--json" in flags] = content.getvalue().decode(encoding)
    assert {line.split()[0] for line in shown["evaluate", False].splitlines()[-2:]} == {
        r"caf\xe9",
        "\u20ac" if encoding == "utf-8" else r"\u20ac",
    }
    assert set(json.loads(shown["evaluate", True])["per_class"]) == set(NAMES)
    assert shown["predict", False].startswith("pictures/test/caf\\xe9/\\xff.png\n")
    (answer,) = json.loads(shown["predict", True])
    assert answer["image"] == "pictures/test/caf\\xe9/\\xff.png"
    assert {entry["class"] for entry in answer["predictions"]} == set(NAMES)
