"""The slowest operations of a network on CPUs, faster than torch's: C++ kernels and when to use them.

norm_act        BN followed by an activation, forward and backward
convolve        3x3 convolutions, by the fastest of: torch's; in fp32, `winograd`; in bf16, torch's with wrn's
                weight gradients
winograd        Winograd's algorithm, forward and backward
native          compiles the C++ files on the machine that runs them; the switch between wrn's kernels and torch's
instructions    the instructions that this machine's CPU has
"""

from wrn.kernels.native import own_kernels_in_use, use_own_kernels

__all__ = ["own_kernels_in_use", "use_own_kernels"]
