from __future__ import annotations

import pytest
import torch
from torch import nn

from wrn.model.batch_norm import preserve_bn_statistics
from wrn.training.sam import perturbed


def test_weights_are_perturbed_by_rho_and_restored_bit_for_bit() -> None:
    torch.manual_seed(0)
    parameters = [nn.Parameter(torch.randn(5, 4)), nn.Parameter(torch.randn(3))]
    for parameter in parameters:
        parameter.grad = torch.randn_like(parameter) * 1000  # a scaled loss must not matter
    before = [p.detach().clone() for p in parameters]
    with perturbed(parameters, 0.3):
        moved = [(p - b).detach() for p, b in zip(parameters, before, strict=True)]
        assert torch.cat([m.flatten() for m in moved]).norm().item() == pytest.approx(0.3, rel=1e-4)
        gradients = torch.cat([p.grad.flatten() for p in parameters if p.grad is not None])
        assert torch.cosine_similarity(torch.cat([m.flatten() for m in moved]), gradients, 0).item() > 0.9999
    assert all(torch.equal(p, b) for p, b in zip(parameters, before, strict=True))


def test_weights_are_restored_after_an_error() -> None:
    parameter = nn.Parameter(torch.ones(2))
    parameter.grad = torch.ones(2)
    with pytest.raises(ValueError, match="x"), perturbed([parameter], 1.0):
        raise ValueError("x")
    assert torch.equal(parameter, torch.ones(2))


def test_bn_statistics_of_the_second_pass_do_not_count() -> None:
    bn = nn.BatchNorm2d(2)
    bn(torch.randn(4, 2, 3, 3))
    mean, count = bn.running_mean.clone(), bn.num_batches_tracked.clone()  # type: ignore[union-attr]
    with preserve_bn_statistics(bn):
        bn(torch.randn(4, 2, 3, 3) + 9)
        assert not torch.equal(bn.running_mean, mean)  # type: ignore[arg-type]
    assert torch.equal(bn.running_mean, mean)  # type: ignore[arg-type]
    assert torch.equal(bn.num_batches_tracked, count)  # type: ignore[arg-type]
