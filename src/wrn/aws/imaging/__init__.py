"""wrn's own training image, and its registry."""
