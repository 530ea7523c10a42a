"""A stand-in for AWS, for tests: SageMaker's training jobs really run, on this machine; the rest is moto.

It holds what we know of AWS from its documentation and from others' reports, not AWS itself.
"""

from standin.server import StandIn

__all__ = ["StandIn"]
