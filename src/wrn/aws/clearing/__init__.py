"""What wrn created on AWS, what it costs, and how to remove it."""
