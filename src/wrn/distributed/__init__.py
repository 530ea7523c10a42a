"""Processes that train together, and how they are started."""
