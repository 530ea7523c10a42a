"""What the data sheets of GPUs promise."""

DENSE_FLOPS = {
    "B200": 2250e12,
    "H200": 989e12,
    "H100": 989e12,
    "GH200": 989e12,
    "A100": 312e12,
    "RTX PRO 6000": 500e12,  # 4,000 TOPS in sparse FP4, which is eight times dense 16-bit
    "L40S": 362e12,
    "L4": 121e12,
    "A10G": 70e12,
    "A10": 125e12,
    "V100": 125e12,
    "T4": 65e12,
}
"""Dense 16-bit FLOP/s with float32 accumulation, by GPU, from the vendors' data sheets."""
