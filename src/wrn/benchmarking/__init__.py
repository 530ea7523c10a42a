"""How fast this program is on your own machine, beside what the machine could do: what `wrn bench` runs.

benchmarks/ in the repository sets the same measurements against peers, which do not ship with the package.
"""
