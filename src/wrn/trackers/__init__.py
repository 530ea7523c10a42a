"""The events of a run and those who listen: console, history, TensorBoard."""
