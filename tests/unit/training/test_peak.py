"""Which peak MFU relates to."""

from __future__ import annotations

import pytest
import torch

from wrn.model import Precision
from wrn.training import peak
from wrn.training.peak import peak_flops


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("NVIDIA H100 80GB HBM3", (989e12, "data sheet of H100")),
        ("NVIDIA H100 PCIe", (1.0, "measured matrix product")),
        ("NVIDIA H200 NVL", (1.0, "measured matrix product")),
        ("Tesla V100-SXM2-16GB", (125e12, "data sheet of V100")),
        ("NVIDIA A10G", (70e12, "data sheet of A10G")),
        ("NVIDIA RTX PRO 6000 Blackwell Server Edition", (500e12, "data sheet of RTX PRO 6000")),
        ("NVIDIA RTX 6000 Ada Generation", (1.0, "measured matrix product")),
    ],
)
def test_by_the_name_of_the_gpu(name: str, expected: tuple[float, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: name)
    monkeypatch.setattr(peak, "measured_matmul_flops", lambda precision: 1.0)
    assert peak_flops(Precision(torch.device("cuda"), torch.bfloat16, "as if")) == expected
