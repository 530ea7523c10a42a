"""What `wrn bench` runs: the program's speed on your own machine, compared with the machine's limits.

benchmarks/ in the repository makes the same measurements against peers, which do not ship with the package.
"""
