"""Our own training image and its registry."""
