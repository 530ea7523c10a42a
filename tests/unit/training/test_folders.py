from __future__ import annotations

import os
from pathlib import Path

import pytest

from wrn.config import Config
from wrn.errors import ConfigError
from wrn.training import folders
from wrn.training.checkpoint import aside_line
from wrn.training.folders import held, remove_empty, set_results_aside, writable_paths


def test_two_runs_cannot_write_into_one_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folders, "PATIENCE_S", 1.0)
    told: list[str] = []
    refused = pytest.raises(ConfigError, match="another run is writing there; wait until it ends, or give another")
    with held((tmp_path,), told.append), refused, held((tmp_path,), told.append):
        pass
    assert told == [f"{tmp_path}: another run is writing there; waiting up to 1 s for it to end"]
    with held((tmp_path, tmp_path), told.append):
        pass
    assert len(told) == 1


def test_a_run_waits_for_another_that_is_about_to_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = held((tmp_path,), pytest.fail)
    first.__enter__()
    monkeypatch.setattr("wrn.training.folders.time.sleep", lambda seconds: first.__exit__(None, None, None))
    with held((tmp_path,), print):
        pass


def test_a_killed_run_holds_nothing(tmp_path: Path) -> None:
    if (child := os.fork()) == 0:
        held((tmp_path,), print).__enter__()
        os._exit(0)
    os.waitpid(child, 0)
    with held((tmp_path,), pytest.fail):
        pass


def test_runs_started_in_the_same_second_get_separate_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("wrn.config.paths.time.strftime", lambda form: "20260101-000000")
    found = [writable_paths(Config(), "x", []).run for _ in range(3)]
    assert [path.name for path in found] == [f"20260101-000000-x{end}" for end in ("", "-2", "-3")]


def test_a_run_that_never_began_changes_nothing(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    config = Config(output_dir=tmp_path / "mine/deep/run", model_dir=tmp_path / "mine")
    new: list[Path] = []
    paths = writable_paths(config, "x", new)
    assert paths.checkpoints.is_dir()
    remove_empty(new)
    assert list(tmp_path.rglob("*")) == [tmp_path / "mine"]


def test_a_file_where_a_folder_is_wanted_is_called_one(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=r"file cannot be written \(it is a file\); give another --output-dir"):
        writable_paths(Config(output_dir=tmp_path / "file"), "x", [])


def test_what_was_set_aside_is_told_with_its_size(tmp_path: Path) -> None:
    assert aside_line(tmp_path) is None
    assert aside_line(tmp_path / "missing") is None
    for number in (1, 2):
        folder = tmp_path / f"set-aside-{number}"
        folder.mkdir()
        (folder / "step-00000004.safetensors").write_bytes(bytes(1_000_000))
        (folder / "step-00000004.safetensors.sha256").write_text("x")
    assert aside_line(tmp_path) == (
        f"set aside by this run or earlier ones: 2 checkpoints, 2 MB, in {tmp_path}/set-aside-*; no run resumes from "
        "these: delete them if you do not need them"
    )


def test_a_run_that_starts_over_sets_earlier_results_aside(tmp_path: Path) -> None:
    assert set_results_aside(tmp_path) is None
    (tmp_path / "config.yaml").write_text("lr: 1\n")
    (tmp_path / "history.jsonl").touch()  # from a run that never finished its first epoch
    (tmp_path / "model").mkdir()  # each run creates it at once
    assert set_results_aside(tmp_path) is None
    for number in (1, 2):
        (tmp_path / "config.yaml").write_text(f"lr: {number}\n")
        (tmp_path / "history.jsonl").write_text(f"{number}\n")
        (tmp_path / "model").mkdir(exist_ok=True)
        (tmp_path / "model/model.json").write_text(f"{number}\n")
        aside = tmp_path / f"set-aside-{number}"
        told = f"set aside, as this run starts over: history.jsonl, model in {aside}"
        assert set_results_aside(tmp_path) == told
        assert (aside / "config.yaml").read_text() == f"lr: {number}\n"
        assert [(aside / name).read_text() for name in ("history.jsonl", "model/model.json")] == [f"{number}\n"] * 2
    assert {path.name for path in tmp_path.iterdir()} == {"set-aside-1", "set-aside-2"}
