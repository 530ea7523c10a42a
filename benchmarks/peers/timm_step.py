"""A second peer: the training step of timm (huggingface/pytorch-image-models), at its fast settings.

timm has no CIFAR-100 network of this shape, so the network is the plain peer's; everything around it is timm's: its
SGD with no decay on BN and biases, its loss, and the order of things in its `train.py --amp --amp-dtype bfloat16
--channels-last` (fp16 with its own loss scaler where a GPU has no bf16, fp32 where a CPU has none).

timm imports torchvision, whose compiled part must fit the very build of torch: where it does not (PyPI's torchvision
beside a CPU build), timm cannot be imported, and `available` says so.
"""

from contextlib import nullcontext

import torch

from peers import plain_pytorch


def available():
    """None where timm can be used, else one phrase that says why not."""
    try:
        import timm  # noqa: F401
    except ImportError:
        return "timm is not installed (pip install timm)"
    except RuntimeError as error:
        return f"timm cannot be imported: its torchvision does not fit this build of torch ({error})"
    return None


class Step:
    """Network, optimiser and step. dtype: what autocast computes in; float32: no autocast."""

    def __init__(self, depth, widen_factor, device, dtype):
        from timm.loss import LabelSmoothingCrossEntropy
        from timm.optim import create_optimizer_v2
        from timm.utils import NativeScaler

        self.device, self.dtype = device, dtype
        self.model = plain_pytorch.WRN(depth, widen_factor).to(device, memory_format=torch.channels_last)
        # "sgd" is Nesterov's in timm. Decay on weights alone is its default too.
        self.optimizer = create_optimizer_v2(self.model, opt="sgd", lr=0.1, momentum=0.9, weight_decay=5e-4)
        self.loss = LabelSmoothingCrossEntropy(smoothing=0.1)
        self.scaler = NativeScaler(device=device.type) if dtype is torch.float16 else None

    def __call__(self, images, labels):
        images = images.contiguous(memory_format=torch.channels_last)
        mixed = nullcontext() if self.dtype is torch.float32 else torch.autocast(self.device.type, dtype=self.dtype)
        with mixed:
            loss = self.loss(self.model(images), labels)
        if self.scaler is not None:
            self.scaler(loss, self.optimizer, parameters=self.model.parameters())
        else:
            loss.backward()
            self.optimizer.step()
        self.optimizer.zero_grad()
