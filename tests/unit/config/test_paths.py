from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from wrn.config import paths
from wrn.config.paths import aws_region, cache_dir, data_search, failure_file, new_run_dir, run_paths
from wrn.config.schema import Config
from wrn.errors import ConfigError


def test_at_home_everything_is_in_the_run_directory() -> None:
    paths = run_paths(Config(output_dir=Path("out")), "x", {"SAGEMAKER_BASE_DIR": "/nowhere"})
    assert (paths.run, paths.model, paths.checkpoints) == (Path("out"), Path("out/model"), Path("out/checkpoints"))
    assert paths.data_dir is None
    assert paths.history == Path("out/history.jsonl")


def test_a_new_run_directory_is_new(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    first = new_run_dir("r")
    first.mkdir(parents=True)
    second = new_run_dir("r")
    assert not second.exists()
    assert first.parent == second.parent == Path("runs")


def test_wrn_data_dir_comes_before_data() -> None:
    assert data_search({"WRN_DATA_DIR": "/d"}) == (Path("/d"), Path("data"))
    assert data_search({}) == (Path("data"),)


def test_home_in_a_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As quotes, a Dockerfile or a systemd unit leave it: no shell has expanded it."""
    monkeypatch.setenv("HOME", str(tmp_path))
    assert data_search({"WRN_DATA_DIR": "~/data"})[0] == tmp_path / "data"
    assert cache_dir({"WRN_CACHE_DIR": "~/cache"}) == tmp_path / "cache"
    names = ("SAGEMAKER_BASE_DIR", "SM_MODEL_DIR", "SM_OUTPUT_DATA_DIR", "SM_CHANNEL_TRAINING")
    (tmp_path / "SM_CHANNEL_TRAINING").mkdir()
    paths = run_paths(Config(), "x", {name: f"~/{name}" for name in names})
    assert [paths.checkpoints.parent, paths.model, paths.run, paths.data_dir] == [tmp_path / name for name in names]


@pytest.mark.parametrize("value", ["~nobody-here/x", "a" * 300])
def test_a_variable_that_holds_no_path(value: str) -> None:
    with pytest.raises(ConfigError, match=f"WRN_DATA_DIR: '{value}' is not allowed"):
        data_search({"WRN_DATA_DIR": value})


def test_on_sagemaker_with_the_toolkit(tmp_path: Path) -> None:
    (tmp_path / "chan").mkdir()
    environ = {
        "SAGEMAKER_BASE_DIR": str(tmp_path),
        "SM_MODEL_DIR": str(tmp_path / "m"),
        "SM_OUTPUT_DATA_DIR": str(tmp_path / "o"),
        "SM_CHANNEL_TRAINING": str(tmp_path / "chan"),
    }
    paths = run_paths(Config(), "x", environ)
    assert (paths.model, paths.run, paths.data_dir) == (tmp_path / "m", tmp_path / "o", tmp_path / "chan")
    assert paths.checkpoints == tmp_path / "checkpoints"
    assert failure_file(environ) == tmp_path / "output/failure"


def test_on_sagemaker_without_the_toolkit(tmp_path: Path) -> None:
    (tmp_path / "input/config").mkdir(parents=True)
    (tmp_path / "input/config/hyperparameters.json").write_text("{}")
    (tmp_path / "input/data/train").mkdir(parents=True)
    paths = run_paths(Config(), "x", {"SAGEMAKER_BASE_DIR": str(tmp_path)})
    assert (paths.model, paths.data_dir) == (tmp_path / "model", tmp_path / "input/data/train")


def test_flags_beat_the_container() -> None:
    config = Config(data_dir=Path("d"), output_dir=Path("o"), model_dir=Path("m"), checkpoint_dir=Path("c"))
    paths = run_paths(config, "x", {"SM_MODEL_DIR": "/opt/ml/model", "SM_CHANNEL_TRAINING": "/"})
    assert (paths.data_dir, paths.run, paths.model, paths.checkpoints) == (Path("d"), Path("o"), Path("m"), Path("c"))


def test_the_region_of_the_environment() -> None:
    assert aws_region({}) is None
    assert aws_region({"AWS_DEFAULT_REGION": "eu-west-1"}) == "eu-west-1"
    assert aws_region({"AWS_REGION": "us-east-2", "AWS_DEFAULT_REGION": "eu-west-1"}) == "us-east-2"


@pytest.fixture
def homeless(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A user without HOME or passwd entry, as `docker run --user` makes; the value is the temporary folder."""

    def unknown(user: int) -> object:
        raise KeyError(f"getpwuid(): uid not found: {user}")

    for name in ("HOME", "XDG_CACHE_HOME", "WRN_CACHE_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("pwd.getpwuid", unknown)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    paths._temporary_cache.cache_clear()
    yield tmp_path
    paths._temporary_cache.cache_clear()


def test_a_user_without_a_home_has_a_cache_in_the_temporary_folder(homeless: Path) -> None:
    folder = paths.cache_dir()
    assert folder == homeless / f"wrn-{os.getuid()}"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert paths.compile_cache() == folder / "compiled"
    assert paths.cache_dir({"WRN_CACHE_DIR": "/elsewhere"}) == Path("/elsewhere")


@pytest.mark.parametrize("kind", ["writable by others", "a link", "a file"])
def test_a_cache_that_somebody_else_may_have_made_is_not_trusted(kind: str, homeless: Path) -> None:
    """Code is loaded from there."""
    taken = homeless / f"wrn-{os.getuid()}"
    if kind == "a file":
        taken.touch()
    elif kind == "a link":
        (homeless / "other").mkdir()
        taken.symlink_to(homeless / "other")
    else:
        taken.mkdir()
        taken.chmod(0o777)
    folder = paths.cache_dir()
    assert folder.parent == homeless
    assert folder not in (taken, homeless / "other")
    assert paths.cache_dir() == folder, "one for the whole run"
