"""The same job run on this machine."""
