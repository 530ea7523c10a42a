"""`python -m wrn` is `wrn`."""

from wrn.cli import run

run()
