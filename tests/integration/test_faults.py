"""SIGKILL at random moments: every restart goes on, and the end is the undisturbed run's, byte for byte."""

from __future__ import annotations

from pathlib import Path

import pytest

from data_files import write_pictures
from faults import torment


def check(folder: Path, data_dir: Path, dataset: str, kills: int, images: int) -> None:
    interval = 0.4
    result = torment(folder, data_dir, dataset, kills, interval, images)
    assert len(result["kills"]) == kills
    assert result["bytes_differing"] == 0
    assert not result["history_differs"]
    assert all(kill["steps_lost"] >= 0 for kill in result["kills"])
    assert len(list((folder / "peaceful/checkpoints").glob("step-*.sha256"))) > 1, "none was written by the clock"
    # The interval, the step and the write of the checkpoint that end it, and the moment until the signal arrives; how
    # long those take is the machine's affair: on a busy one, or a slow disk, seconds.
    assert max(kill["seconds_lost"] for kill in result["kills"]) < interval + 5.0


def test_six_kills(tmp_path: Path) -> None:
    pictures = write_pictures(tmp_path / "pictures", ("a", "b", "c"), each=100)
    check(tmp_path, pictures, "folder", kills=6, images=0)


@pytest.mark.slow
@pytest.mark.real_data
@pytest.mark.timeout(1800)
def test_fifty_kills_on_real_images(real_data: Path, tmp_path: Path) -> None:
    check(tmp_path, real_data, "cifar100", kills=50, images=2000)
