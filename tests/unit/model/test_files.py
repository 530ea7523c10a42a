from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from wrn.errors import ModelError
from wrn.model import ModelInfo, WideResNet, files, load_model, read_info, save_model


@pytest.fixture
def model() -> WideResNet:
    torch.manual_seed(0)
    model = WideResNet(10, 1, 0.1, 3).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    model(torch.randn(4, 3, 8, 8))  # BN has statistics to keep
    return model.eval()


@pytest.fixture
def info(model: WideResNet) -> ModelInfo:
    return ModelInfo(
        architecture=model.architecture,
        mean=(0.5, 0.4, 0.3),
        std=(0.2, 0.2, 0.1),
        classes=("a", "b", "ç"),
        superclasses=("x",),
        superclass_of=(0, 0, 0),
        dataset="folder",
        metrics={"top1": 0.5, "split": "test"},
        config={"lr": 0.1},
        provenance={"torch": "x"},
    )


def test_a_model_older_than_the_choice_has_relu(tmp_path: Path, model: WideResNet, info: ModelInfo) -> None:
    save_model(tmp_path, model, info)
    written = json.loads((tmp_path / "model.json").read_text())
    assert written["architecture"].pop("activation") == "relu"
    assert written["architecture"].pop("downsampling") == "stride"
    (tmp_path / "model.json").write_text(json.dumps(written))
    assert read_info(tmp_path).architecture == info.architecture


def test_a_network_with_sync_bn_is_saved_as_any_other(tmp_path: Path, model: WideResNet, info: ModelInfo) -> None:
    x = torch.randn(2, 3, 8, 8)
    expected = model(x)
    converted = torch.nn.SyncBatchNorm.convert_sync_batchnorm(model)
    assert any(isinstance(layer, torch.nn.SyncBatchNorm) for layer in converted.modules())
    save_model(tmp_path, converted, info)
    loaded, _ = load_model(tmp_path)
    assert torch.allclose(loaded(x), expected, atol=1e-6)


@pytest.mark.parametrize(
    ("other", "name"),
    [
        ({"activation": "silu"}, "WRN-10-1 with SiLU"),
        ({"downsampling": "pool"}, "WRN-10-1 with pooling"),
        ({"activation": "silu", "downsampling": "pool"}, "WRN-10-1 with SiLU and pooling"),
    ],
)
def test_deviations_from_the_paper_are_kept(tmp_path: Path, info: ModelInfo, other: dict[str, Any], name: str) -> None:
    model = WideResNet(10, 1, 0.0, 3, **other).eval()
    save_model(tmp_path, model, replace(info, architecture=model.architecture))
    loaded, again = load_model(tmp_path)
    assert str(again.architecture) == name
    x = torch.randn(2, 3, 8, 8)
    assert torch.allclose(loaded(x), model(x), atol=1e-6)


def test_round_trip(tmp_path: Path, model: WideResNet, info: ModelInfo) -> None:
    save_model(tmp_path / "m", model, info)
    loaded, again = load_model(tmp_path / "m")
    assert again == info
    x = torch.randn(2, 3, 8, 8)
    assert torch.allclose(loaded(x), model(x), atol=1e-6)
    assert not loaded.training
    assert sorted(path.name for path in (tmp_path / "m").iterdir()) == ["model.json", "model.safetensors"]


def test_saving_again_replaces_both(tmp_path: Path, model: WideResNet, info: ModelInfo) -> None:
    save_model(tmp_path, model, info)
    with torch.no_grad():
        model.fc.bias.fill_(2.0)
    save_model(tmp_path, model, replace(info, dataset="cifar10"))
    loaded, again = load_model(tmp_path)
    assert again.dataset == "cifar10"
    assert loaded.fc.bias.tolist() == [2.0] * 3


def test_an_interruption_never_pairs_weights_with_another_description(
    tmp_path: Path, model: WideResNet, info: ModelInfo, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_model(tmp_path, model, info)
    really = Path.replace

    def interrupted(self: Path, target: Path) -> None:
        if target.name == "model.json":
            raise KeyboardInterrupt
        really(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", interrupted)
        with pytest.raises(KeyboardInterrupt):
            save_model(tmp_path, model, replace(info, dataset="cifar10"))
    assert [path.name for path in tmp_path.iterdir()] == ["model.safetensors"]
    with pytest.raises(ModelError, match=r"contains no model\.json"):
        load_model(tmp_path)
    save_model(tmp_path, model, replace(info, dataset="cifar10"))
    assert load_model(tmp_path)[1].dataset == "cifar10"


def test_a_full_disk_leaves_only_the_old_model(
    tmp_path: Path, model: WideResNet, info: ModelInfo, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_model(tmp_path, model, info)

    def full(path: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files, "flush", full)
    with pytest.raises(ModelError, match=r"the model cannot be written .*No space left.*free space"):
        save_model(tmp_path, model, replace(info, dataset="cifar10"))
    assert load_model(tmp_path)[1] == info
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.json", "model.safetensors"]


def test_weights_of_another_network(tmp_path: Path, model: WideResNet, info: ModelInfo) -> None:
    save_model(tmp_path, model, info)
    description = json.loads((tmp_path / "model.json").read_text())
    description["architecture"]["widen_factor"] = 2
    (tmp_path / "model.json").write_text(json.dumps(description))
    with pytest.raises(ModelError, match=r"not the weights of the WRN-10-2 that model\.json describes"):
        load_model(tmp_path)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "is damaged"),
        ("[]", "is damaged"),
        ("{}", "is damaged"),
        ('{"format": 99}', "has format 99, but this wrn reads 1"),
        ('{"format": 1, "architecture": {"depth": "deep"}}', "architecture"),
        ('{"format": 1, "surprise": 1}', "is damaged"),
    ],
)
def test_damaged_descriptions(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "model.json").write_text(text)
    with pytest.raises(ModelError, match=words):
        read_info(tmp_path)


def test_damaged_weights(tmp_path: Path, model: WideResNet, info: ModelInfo) -> None:
    save_model(tmp_path, model, info)
    path = tmp_path / "model.safetensors"
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(ModelError, match=r"model\.safetensors: cannot be read"):
        load_model(tmp_path)
    path.unlink()
    with pytest.raises(ModelError, match=r"model\.safetensors: cannot be read"):
        load_model(tmp_path)


def test_the_run_directory_instead_of_its_model(tmp_path: Path, model: WideResNet, info: ModelInfo) -> None:
    save_model(tmp_path / "model", model, info)
    with pytest.raises(ModelError, match=f"give {tmp_path / 'model'} as --model-dir"):
        load_model(tmp_path)


def test_names_that_do_not_fit_the_network(tmp_path: Path, model: WideResNet, info: ModelInfo) -> None:
    save_model(tmp_path, model, replace(info, classes=info.classes[1:]))
    with pytest.raises(ModelError, match=r"is damaged \(\d+ class names and \d+ superclasses for \d+ classes\)"):
        load_model(tmp_path)


def test_names_that_are_not_utf8(tmp_path: Path, model: WideResNet, info: ModelInfo) -> None:
    """Neither the folder's nor a class's has to be, and what is written is Unicode."""
    folder = tmp_path / "caf\udce9"
    save_model(folder, model, replace(info, classes=("a", "b", "caf\udce9")))
    assert load_model(folder)[1].classes == ("a", "b", r"caf\xe9")
    text = (folder / "model.json").read_text(encoding="utf-8")
    (folder / "model.json").write_text(text.replace(r"caf\\xe9", r"caf\udce9"), encoding="utf-8")  # of earlier versions
    assert r'"caf\udce9"' in (folder / "model.json").read_text(encoding="utf-8")
    assert load_model(folder)[1].classes == ("a", "b", r"caf\xe9")
