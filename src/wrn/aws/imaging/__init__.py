"""A training image of our own, and the registry it is in."""
