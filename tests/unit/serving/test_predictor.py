from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image

from wrn.errors import DataError
from wrn.kernels import Kernels, pick_kernels
from wrn.model import ModelInfo, WideResNet, load_model, save_model
from wrn.serving.predictor import Predictor


@pytest.fixture
def predictor(tmp_path: Path) -> Predictor:
    torch.manual_seed(0)
    model = WideResNet(10, 1, 0.0, 3)
    names = ("red", "green", "blue")
    info = ModelInfo(model.architecture, (0.5,) * 3, (0.2,) * 3, names, (), (), "folder")
    save_model(tmp_path / "m", model, info)
    return Predictor(tmp_path / "m", device="cpu")


def test_our_kernels_answer_on_a_cpu_as_torchs_do(predictor: Predictor) -> None:
    images = torch.randint(0, 256, (24, 3, 32, 32), dtype=torch.uint8)
    assert predictor._model.kernels == pick_kernels(torch.device("cpu"))
    ours = [dict(answer) for answer in predictor.predict(images)]
    predictor._model.use_kernels(Kernels())
    theirs = [dict(answer) for answer in predictor.predict(images)]
    for one, other in zip(ours, theirs, strict=True):
        assert one == pytest.approx(other, abs=0.01)  # as near as bf16 allows, where the CPU has it


TRACE = """
import sys
from pathlib import Path
import torch
from wrn.serving.predictor import Predictor
model = Predictor(Path(sys.argv[1]), device="cpu")._model
images = torch.randn(2, 3, 32, 32).to(memory_format=torch.channels_last)
traced = torch.jit.trace(model, images)
more = torch.randn(5, 3, 32, 32).to(memory_format=torch.channels_last)
torch.testing.assert_close(traced(more), model(more), atol=1e-4, rtol=1e-4)
assert "wrn" not in {node.kind().split(":")[0] for node in traced.inlined_graph.nodes()}
"""


def test_its_network_can_be_traced(predictor: Predictor, tmp_path: Path) -> None:
    """In a process of its own: a kernel that takes the tracer's sizes for pointers ends it without an exception."""
    done = subprocess.run(
        [sys.executable, "-c", TRACE, str(tmp_path / "m")], capture_output=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr


def test_probabilities_of_the_best_classes_first(predictor: Predictor) -> None:
    answers = predictor.predict(torch.randint(0, 256, (4, 3, 32, 32), dtype=torch.uint8), top=5)
    assert len(answers) == 4
    for answer in answers:
        assert {name for name, _ in answer} == {"red", "green", "blue"}
        shares = [share for _, share in answer]
        assert shares == sorted(shares, reverse=True)
        assert sum(shares) == pytest.approx(1, abs=1e-3)


def test_files_and_tensors_give_the_same(predictor: Predictor, tmp_path: Path) -> None:
    image = torch.randint(0, 256, (3, 32, 32), dtype=torch.uint8)
    path = tmp_path / "x.png"
    Image.fromarray(image.permute(1, 2, 0).contiguous().numpy()).save(path)
    assert predictor.predict_files([path]) == predictor.predict(image[None])


def test_a_large_picture_is_read_without_a_warning(
    predictor: Predictor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.new("RGB", (100, 100)).save(tmp_path / "large.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 6000)
    assert len(predictor.predict_files([tmp_path / "large.png"])) == 1


def test_files_that_are_no_pictures_cost_no_answer(predictor: Predictor, tmp_path: Path) -> None:
    for name, colour in (("a.png", "red"), ("c.png", "blue")):
        Image.new("RGB", (32, 32), colour).save(tmp_path / name)
    (tmp_path / "b.png").write_text("hello")
    files = [tmp_path / name for name in ("a.png", "b.png", "c.png", "none.png")]
    first, second, third, fourth = predictor.predict_files(files)
    assert [first, third] == predictor.predict_files([files[0], files[2]])
    assert isinstance(second, DataError)
    assert str(second).startswith(f"{files[1]}: cannot be read as an image")
    assert [str(error) for error in predictor.predict_files(files[3:])] == [str(fourth)]
    assert "there is no such file" in str(fourth)


def test_pictures_are_normalised_as_in_training(predictor: Predictor, tmp_path: Path) -> None:
    images = torch.randint(0, 256, (4, 3, 32, 32), dtype=torch.uint8)
    model, _ = load_model(tmp_path / "m")
    with torch.no_grad():
        expected = model((images / 255 - 0.5) / 0.2).softmax(1)
    for answer, shares in zip(predictor.predict(images), expected.tolist(), strict=True):
        assert dict(answer) == pytest.approx(dict(zip(("red", "green", "blue"), shares, strict=True)), abs=0.02)
