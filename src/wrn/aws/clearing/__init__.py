"""What of ours is on AWS, what it costs, and how it goes away."""
