"""A split's logits and their scores."""
