"""SIGKILL at random moments: every restart resumes, and the result equals the undisturbed run's, byte for byte."""

from __future__ import annotations

from pathlib import Path

import pytest

from data_files import write_pictures
from faults import inject_kills


def check(folder: Path, data_dir: Path, dataset: str, kills: int, images: int, stepping_s: float = 4.0) -> None:
    interval = 0.4
    result = inject_kills(folder, data_dir, dataset, kills, interval, images, stepping_s)
    assert len(result["kills"]) == kills
    assert result["bytes_differing"] == 0
    assert not result["history_differs"]
    assert all(kill["steps_lost"] >= 0 for kill in result["kills"])
    assert len(list((folder / "undisturbed/checkpoints").glob("step-*.sha256"))) > 1, "none was written by wall time"
    # The interval, plus the step and write that end it, plus the delay of the signal: up to seconds on a busy machine
    # or a slow disk.
    assert max(kill["seconds_lost"] for kill in result["kills"]) < interval + 5.0


def test_six_kills(tmp_path: Path) -> None:
    pictures = write_pictures(tmp_path / "pictures", ("a", "b", "c"), each=100)
    check(tmp_path, pictures, "folder", kills=6, images=0, stepping_s=1.5)


@pytest.mark.slow
@pytest.mark.real_data
@pytest.mark.timeout(1800)
def test_fifty_kills_on_real_images(real_data: Path, tmp_path: Path) -> None:
    check(tmp_path, real_data, "cifar100", kills=50, images=2000)
