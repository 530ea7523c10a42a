"""The Wide Residual Network of Zagoruyko and Komodakis (arXiv:1605.07146), pre-activation, for 32x32 images."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor, nn

from wrn.config.architecture import Activation, Architecture, Downsampling, nearest_depths
from wrn.errors import ModelError
from wrn.kernels import Kernels
from wrn.kernels.convolve import convolve
from wrn.kernels.norm_act import norm_act


class Block(nn.Module):
    """Two 3x3 convolutions, each preceded by BN and activation, with a shortcut: B(3, 3) with dropout between them.

    If the width changes, the shortcut is a 1x1 convolution of the pre-activated input; otherwise it is the input
    itself. If the side is halved, the first 3x3 convolution and the shortcut have stride 2, as in the paper, so the
    shortcut sees one pixel in four. With `downsampling="pool"` both see the mean of each 2x2 pixels instead, at stride
    1 (for the shortcut as in ResNet-D, arXiv:1812.01187, section 4.1).
    """

    def __init__(self, shape: Architecture, inputs: int, outputs: int, stride: int, bn_momentum: float) -> None:
        super().__init__()
        pooled = shape.downsampling == "pool" and stride > 1
        # Odd sides are rounded up, as by a convolution of stride 2.
        self.pool = nn.AvgPool2d(stride, ceil_mode=True) if pooled else nn.Identity()
        stride = 1 if pooled else stride
        self.activation: Activation = shape.activation
        self.kernels = Kernels()
        self.bn1 = nn.BatchNorm2d(inputs, momentum=bn_momentum)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs, momentum=bn_momentum)
        self.dropout = nn.Dropout(shape.dropout)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.shortcut = nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False) if inputs != outputs else None

    def forward(self, x: Tensor) -> Tensor:
        y = self.pool(norm_act(self.bn1, self.activation, x, self.kernels))
        skip = x if self.shortcut is None else self.shortcut(y)
        y = convolve(self.conv1, y, self.kernels)
        y = self.dropout(norm_act(self.bn2, self.activation, y, self.kernels))
        return skip + convolve(self.conv2, y, self.kernels)


class WideResNet(nn.Module):
    """WRN-`depth`-`widen_factor`: (B, 3, H, W) normalised images to (B, num_classes) logits.

    Convolutions start from He's normal initialisation over the fan-out (arXiv:1502.01852), BN from gamma 1 and
    beta 0, the classifier from He's over the fan-in with zero bias. With `zero_init_residual` each block starts as
    its shortcut alone. arXiv:1706.02677 achieves that with gamma 0 in the block's last BN, but in a pre-activation
    block a ReLU follows that BN, and its gradient at 0 is 0: the block would stay dead forever. So here the
    convolution after it starts at 0 instead, which has the same effect on the output and does learn.

    Raises ModelError if the depth is not 6n+4.
    """

    def __init__(
        self,
        depth: int = 28,
        widen_factor: int = 10,
        dropout: float = 0.0,
        num_classes: int = 100,
        *,
        activation: Activation = "relu",
        downsampling: Downsampling = "stride",
        zero_init_residual: bool = False,
        bn_momentum: float = 0.1,
    ) -> None:
        super().__init__()
        if (near := nearest_depths(depth)) is not None:
            raise ModelError(f"depth {depth} is not 6n+4; the nearest depths are {near[0]} and {near[1]}")
        if widen_factor < 1 or num_classes < 1:
            raise ModelError(f"widen_factor {widen_factor} and num_classes {num_classes} must be at least 1")
        self.architecture = Architecture(depth, widen_factor, dropout, num_classes, activation, downsampling)
        stem, *widths = self.architecture.widths
        self.conv1 = nn.Conv2d(3, stem, 3, padding=1, bias=False)
        groups = []
        inputs = stem
        for outputs, stride in zip(widths, (1, 2, 2), strict=True):
            blocks = []
            for index in range(self.architecture.blocks_per_group):
                blocks.append(Block(self.architecture, inputs, outputs, 1 if index else stride, bn_momentum))
                inputs = outputs
            groups.append(nn.Sequential(*blocks))
        self.groups = nn.Sequential(*groups)
        self.bn = nn.BatchNorm2d(inputs, momentum=bn_momentum)
        self.activation: Activation = activation
        self.kernels = Kernels()
        self.fc = nn.Linear(inputs, num_classes)
        self._initialise(zero_init_residual)

    @classmethod
    def of(cls, shape: Architecture) -> WideResNet:
        """An untrained network."""
        return cls(
            shape.depth,
            shape.widen_factor,
            shape.dropout,
            shape.num_classes,
            activation=shape.activation,
            downsampling=shape.downsampling,
        )

    def forward(self, x: Tensor) -> Tensor:
        x = self.groups(self.conv1(x))
        x = norm_act(self.bn, self.activation, x, self.kernels)
        return self.fc(x.mean(dim=(2, 3)))

    def use_kernels(self, kernels: Kernels) -> None:
        """Compute with these from now on; a new network uses torch's operations. The weights stay as they are."""
        self.kernels = kernels
        for block in self.blocks():
            block.kernels = kernels

    def blocks(self) -> Iterator[Block]:
        for group in self.groups:
            assert isinstance(group, nn.Sequential)
            for block in group:
                assert isinstance(block, Block)
                yield block

    def _initialise(self, zero_init_residual: bool) -> None:
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        nn.init.kaiming_normal_(self.fc.weight, nonlinearity="relu")
        nn.init.zeros_(self.fc.bias)
        if zero_init_residual:
            for block in self.blocks():
                nn.init.zeros_(block.conv2.weight)
