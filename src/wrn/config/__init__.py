"""The configuration of a run: its schema, the layers it is made of, and where its files are."""

from wrn.config.layers import Resolved, resolve
from wrn.config.paths import RunPaths, run_paths
from wrn.config.schema import Config

__all__ = ["Config", "Resolved", "RunPaths", "resolve", "run_paths"]
