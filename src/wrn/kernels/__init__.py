"""The slowest operations of a network on CPUs, computed faster: operators of torch, written in C++.

choice          which of them a network uses: `Kernels`, held by the network; picked for a machine by `pick_kernels`
norm_act        BN followed by an activation, forward and backward
convolve        3x3 convolutions by the fastest of: torch's operation; in fp32, `winograd`; in bf16, torch's with
                faster weight gradients
winograd        Winograd's algorithm, forward and backward
operator        registers a function as torch.ops.wrn.*, which torch.compile and torch.export see
native          compiles the C++ files on the machine that runs them, and calls their functions
instructions    which instructions this machine's CPU has
"""

from wrn.kernels.choice import Kernels, pick_kernels

__all__ = ["Kernels", "pick_kernels"]
