"""A job from its start to its model on this machine: log, phases, progress, results."""
