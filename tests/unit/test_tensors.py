"""Tensors in files that others may read."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from wrn.tensors import open_tensors, save_tensors


@pytest.mark.parametrize(("umask", "rights"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_a_file_has_the_rights_that_the_umask_leaves(umask: int, rights: int, tmp_path: Path) -> None:
    before = os.umask(umask)
    try:
        save_tensors(tmp_path / "x.safetensors", {"a": torch.arange(3)}, {"about": "x"})
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "x.safetensors").stat().st_mode) == rights
    assert load_file(tmp_path / "x.safetensors")["a"].tolist() == [0, 1, 2]


@pytest.mark.parametrize("name", ["plain", "caf\u00e9", "caf\udce9"])
def test_any_name_of_a_folder(name: str, tmp_path: Path) -> None:
    path = tmp_path / name / "x.safetensors"
    path.parent.mkdir()
    save_tensors(path, {"a": torch.arange(3)}, {"about": "x"})
    with open_tensors(path) as file:
        tensor, metadata = file.get_tensor("a"), file.metadata()
    assert tensor.tolist() == [0, 1, 2]  # after the file was closed
    assert metadata == {"about": "x"}
