"""The commands as users run them, on a folder of pictures."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from wrn.cli import main

ROOT = Path(__file__).resolve().parents[2]
SMALL = ["--depth", "10", "--widen-factor", "1", "--batch-size", "8", "--warmup-epochs", "0", "--device", "cpu"]
PLAIN = ["--mixup-alpha", "0", "--cutout", "0", "--progress", "plain"]


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Three classes, distinguished by colour, with 12 pictures each to train on and 4 to test on."""
    rng = np.random.default_rng(0)
    root = tmp_path / "pictures"
    for part, count in (("train", 12), ("test", 4)):
        for channel, name in enumerate(("red", "green", "blue")):
            folder = root / part / name
            folder.mkdir(parents=True)
            for number in range(count):
                pixels = rng.integers(0, 100, (32, 32, 3), dtype=np.uint8)
                pixels[:, :, channel] += 120
                Image.fromarray(pixels).save(folder / f"{number}.png")
    return root


def arguments(pictures: Path, output: Path, *more: str) -> list[str]:
    data = ["--dataset", "folder", "--data-dir", str(pictures), "--output-dir", str(output)]
    return ["train", *data, *SMALL, *PLAIN, *more]


def test_train_evaluate_predict(pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "my run"
    assert main(arguments(pictures, run, "--epochs", "6", "--tta", "--lr-decay", "0.5")) == 0
    shown = capsys.readouterr().out
    lines = shown.strip().split("\n")
    assert lines[0] == "lr_decay: has no effect without schedule step"
    assert any(line.startswith("fresh start: no checkpoint in ") for line in lines)
    epochs = [
        dict(pair.split("=") for pair in line.split()) for line in lines if line.startswith("dataset=folder epoch=")
    ]
    assert [row["epoch"] for row in epochs] == list("123456")
    assert {"train_loss", "test_top1", "test_top5", "lr", "images_per_s", "mfu"} <= set(epochs[-1])
    assert lines[-1] == f"next: wrn predict --model-dir '{run}/model' IMAGE"
    for name in ("history.jsonl", "config.yaml", "metrics.json", "model/model.safetensors", "model/model.json"):
        assert (run / name).is_file()
    assert yaml.safe_load((run / "config.yaml").read_text())["training"]["batch_size"] == 8
    assert len((run / "history.jsonl").read_text().splitlines()) == 6
    written = json.loads((run / "metrics.json").read_text())

    model = ["--model-dir", str(run / "model")]
    assert main(["evaluate", *model, "--data-dir", str(pictures), "--json", "--tta", "--per-class"]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert {"top1", "top5", "loss", "ece", "dataset", "split", "images"} <= set(figures)
    assert (figures["dataset"], figures["split"], figures["images"]) == ("folder", "test", 12)
    assert figures["top1"] == written["top1"] == 1.0
    assert figures["loss"] == pytest.approx(written["loss"], rel=0.02)
    assert figures["per_class"] == {"red": 1.0, "green": 1.0, "blue": 1.0}
    assert "tta" in figures

    picture = str(pictures / "test/green/0.png")
    assert main(["predict", *model, picture, "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer[0]["image"] == picture
    assert answer[0]["predictions"][0]["class"] == "green"
    assert main(["predict", *model, picture]) == 0
    assert capsys.readouterr().out.split("\n")[1].split()[0] == "green"

    (tmp_path / "bad.png").write_text("hello")
    for flags in ([], ["--json"]):
        assert main(["predict", *model, "none.png", picture, str(tmp_path / "bad.png"), *flags]) == 2
        told = capsys.readouterr()
        assert (told.out.count(picture), told.out.count(".png")) == (1, 1)
        first, second = told.err.splitlines()
        assert first == "wrn predict: none.png: there is no such file; give the path of an image"
        assert second.startswith(f"wrn predict: {tmp_path / 'bad.png'}: cannot be read as an image")


def test_validation_leaves_the_best_and_the_last_model(
    pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    more = ["--epochs", "9", "--val-fraction", "0.25", "--target-accuracy", "0.9"]
    assert main(arguments(pictures, run, *more)) == 0
    shown = capsys.readouterr().out
    assert "stopped early: validation top-1 reached" in shown
    assert "the best on the validation split" in shown
    assert (run / "model/model.safetensors").is_file()
    assert (run / "model-last/model.safetensors").is_file()


def test_the_entry_point_is_the_same_program(pictures: Path, tmp_path: Path) -> None:
    flags = arguments(pictures, tmp_path / "run", "--epochs", "1")[1:]
    flags[flags.index("--data-dir")] = "--train-dir"
    done = subprocess.run(
        [sys.executable, "train.py", *flags], cwd=ROOT / "src", capture_output=True, text=True, check=True
    )
    assert done.stdout.strip().split("\n")[-1].startswith("next: wrn predict")
    wrong = subprocess.run(
        [sys.executable, str(ROOT / "src/train.py"), "--epocs", "3"], capture_output=True, text=True, check=False
    )
    assert (wrong.returncode, "did you mean --epochs?" in wrong.stderr) == (2, True)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGUSR1])
def test_a_signal_saves_and_the_same_command_resumes(number: signal.Signals, pictures: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    command = [sys.executable, "-m", "wrn", *arguments(pictures, run, "--epochs", "400", "--eval-epochs", "0")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    for line in process.stdout:
        if " epoch=2 " in line:
            break
    process.send_signal(number)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 3
    assert f"stopped by {number.name} after step" in error
    assert "Run the same command again to resume" in error
    assert "Traceback" not in error
    command[command.index("400")] = "401"
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    resumed = next(line for line in process.stdout if line.startswith(("resumed", "fresh")))
    process.kill()
    process.communicate()
    assert resumed.startswith("resumed from step ")


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="only Linux tells what a process has loaded")
def test_stopped_while_torch_is_loaded(pictures: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "wrn", *arguments(pictures, tmp_path / "run")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    maps = Path(f"/proc/{process.pid}/maps")
    while "libtorch" not in maps.read_text():
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    _, error = process.communicate(timeout=60)
    assert (process.returncode, (tmp_path / "run").exists()) == (3, False)
    assert error == "wrn train: stopped by SIGTERM before the first step; run the same command again\n"


def test_killed_repeatedly_it_resumes_from_the_newest_checkpoint(pictures: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    more = ["--epochs", "100000", "--eval-epochs", "0", "--checkpoint-minutes", "0.001"]
    command = [sys.executable, "-m", "wrn", *arguments(pictures, run, *more)]
    saved = 0
    for number in range(3):
        # To a file: a run whose output nobody reads would block once the pipe is full.
        with (tmp_path / f"log-{number}").open("w") as log:
            process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
        try:
            before, saved = saved, newer_checkpoint(run / "checkpoints", saved, process)
        finally:
            process.kill()
            process.wait()
        lines = (tmp_path / f"log-{number}").read_text().splitlines()
        first = next(line for line in lines if line.startswith(("resumed", "fresh")))
        # Another one may have been written between this check and the kill.
        assert first.startswith("resumed from step ") == (number > 0), first
        assert (int(first.split()[3]) if number else 0) >= before


def newer_checkpoint(folder: Path, step: int, process: subprocess.Popen[bytes]) -> int:
    """The step of the newest complete checkpoint, once there is one after `step`."""
    deadline = time.monotonic() + 90
    while True:
        newest = max((int(path.name[5:13]) for path in folder.glob("step-*.sha256")), default=0)
        if newest > step:
            return newest
        assert process.poll() is None, "the run has ended"
        assert time.monotonic() < deadline, f"no checkpoint after step {step}"
        time.sleep(0.02)


def test_on_sagemaker_the_failure_reason_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SAGEMAKER_BASE_DIR", str(tmp_path))
    monkeypatch.setenv("SM_MODEL_DIR", str(tmp_path / "model"))
    monkeypatch.chdir(tmp_path)
    assert main(["train", "--dataset", "folder", "--epochs", "1", "--warmup-epochs", "0"]) == 2
    assert "there is no folder with train/<class>/" in (tmp_path / "output/failure").read_text()
    assert "there is no folder with train/<class>/" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--batch-size", "64"], "batch_size 64 is larger than the 36 training images"),
        (["--num-classes", "10"], "num_classes 10 does not fit: folder has 3 classes"),
        (["--train-images", "100"], "train_images 100 is more than the 36 available"),
        (["--lr", "-1"], "lr (flag): '-1' is not allowed"),
        (["--device", "cuda:7"], "device: cuda:7 is not available"),
        (["--resume", "nowhere"], "no such checkpoint"),
        (["--output-dir", "/proc/no"], "output_dir: /proc/no cannot be written"),
    ],
)
def test_what_users_can_fix_is_one_sentence(
    flags: list[str], words: str, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments(pictures, tmp_path / "run", "--epochs", "1", *flags)) == 2
    error = capsys.readouterr().err
    assert words in error
    assert "Traceback" not in error


@pytest.mark.parametrize("flags", [["--data-dir", "nothing"], ["--batch-size", "64"], ["--resume", "nowhere"]])
def test_a_run_that_never_began_leaves_no_folder(
    flags: list[str], pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    before = ["train", "--dataset", "folder", "--data-dir", str(pictures), *SMALL, *PLAIN, "--epochs", "1"]
    assert main([*before, *flags]) == 2
    assert list(Path("runs").glob("**/*")) == []
    # A folder that the user made is never removed.
    Path("mine").mkdir()
    assert main([*before, *flags, "--output-dir", "mine"]) == 2
    assert Path("mine").is_dir()
    assert main([*before, "--output-dir", "new", "--model-dir", "/proc/no"]) == 2
    assert not Path("new").exists()


def test_missing_tensorboard_is_reported_before_anything_is_made(
    pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert main(arguments(pictures, tmp_path / "run", "--tensorboard")) == 2
    assert "tensorboard: is not installed; pip install" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_tensorboard_and_rich(pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "run"
    more = ["--epochs", "2", "--tensorboard", "true", "--progress", "rich"]
    assert main(arguments(pictures, run, *more)) == 0
    assert "epoch   2  train loss" in capsys.readouterr().out
    assert any("tfevents" in path.name for path in (run / "tensorboard").iterdir())
    assert next((run / "tensorboard").iterdir()).stat().st_size > 100


def test_what_was_set_aside_is_reported_at_the_end(
    pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for again in ([], ["--resume", "never"]):
        assert main(arguments(pictures, tmp_path / "run", "--epochs", "1", *again)) == 0
        told = [line for line in capsys.readouterr().out.splitlines() if line.startswith("set aside by this run")]
        assert len(told) == len(again) // 2
    assert told[0].endswith(
        f"in {tmp_path}/run/checkpoints/set-aside-*; no run resumes from these: delete them if you do not need them"
    )


def test_the_time_taken_is_reported_for_the_run_and_for_this_start(
    pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told = []
    for epochs in ("1", "2", "2"):
        assert main(arguments(pictures, tmp_path / "run", "--epochs", epochs, "--warmup-epochs", "0")) == 0
        lines = capsys.readouterr().out.splitlines()
        told += [line for line in lines if line.startswith("done in ")]
        assert not any("set aside" in line for line in lines)
    number = r"\d+ (?:s|min)"
    assert re.match(rf"done in {number}: test top-1", told[0])
    assert re.match(rf"done in {number} after resuming \({number} of training in total\): test top-1", told[1])
    assert re.match(rf"done in {number}, already trained \({number}\): test", told[2])
