"""Following a job from its start to its fetched model: log, phases, progress, results."""
