"""The recipes are in the package; at the root of a clone are links to them, and nothing there is ignored silently."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from wrn.config import layers
from wrn.config.layers import recipe_root, resolve
from wrn.config.links import replaced_links
from wrn.errors import ConfigError

ROOT = Path(__file__).resolve().parents[3]


def test_one_file_under_two_names() -> None:
    assert (ROOT / "config.yaml").resolve() == recipe_root() / "config.yaml"
    assert (ROOT / "configs").resolve() == recipe_root() / "configs"
    assert recipe_root() == ROOT / "src/wrn/recipes", "src/ alone is complete"
    assert not any(path.is_symlink() for path in (ROOT / "src").rglob("*")), "tar keeps links as links"


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    shutil.copytree(recipe_root(), tmp_path / "src/wrn/recipes")
    (tmp_path / "pyproject.toml").touch()
    (tmp_path / "config.yaml").symlink_to("src/wrn/recipes/config.yaml")
    (tmp_path / "configs").symlink_to("src/wrn/recipes/configs")
    return tmp_path


def found(clone: Path) -> list[str]:
    return [problem.partition(":")[0] for problem in replaced_links(clone / "src/wrn")]


def test_links_stay_links(clone: Path) -> None:
    assert found(clone) == []
    with (clone / "config.yaml").open("a") as file:
        file.write("# mine\n")
    (clone / "configs/mine.yaml").write_text("epochs: 1\n")
    assert found(clone) == [], "what is written through a link is in the package"


def test_a_file_in_the_place_of_a_link_is_told(clone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As `sed -i` leaves it."""
    (clone / "config.yaml").unlink()
    (clone / "config.yaml").write_text("epochs: 50\n")
    assert found(clone) == ["config.yaml"]
    monkeypatch.setattr(layers, "PACKAGE", clone / "src/wrn")
    with pytest.raises(ConfigError, match=r"move it to src/wrn/recipes/config\.yaml, .* git checkout -- config\.yaml$"):
        resolve(None, {})


def test_a_copy_of_the_folder(clone: Path) -> None:
    (clone / "configs").unlink()
    shutil.copytree(clone / "src/wrn/recipes/configs", clone / "configs")
    assert found(clone) == [], "as by `cp -rL`: the same files"
    (clone / "configs/strong.yaml").write_text("epochs: 1\n")
    (clone / "configs/mine.yaml").write_text("epochs: 1\n")
    assert found(clone) == ["configs/mine.yaml", "configs/strong.yaml"]


@pytest.mark.parametrize("end", ["", "\n", "\r\n"])
def test_a_checkout_without_symbolic_links(clone: Path, end: str) -> None:
    """As git makes on Windows: the link's target as text."""
    for name in ("config.yaml", "configs"):
        (clone / name).unlink()
        (clone / name).write_text(f"src/wrn/recipes/{name}{end}")
    assert found(clone) == []


def test_only_a_clone_is_looked_at(clone: Path) -> None:
    (clone / "config.yaml").unlink()
    (clone / "config.yaml").write_text("somebody's\n")
    (clone / "pyproject.toml").unlink()
    assert found(clone) == []
