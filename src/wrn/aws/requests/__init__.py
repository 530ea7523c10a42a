"""The requests to AWS, as pure functions: the job, its code, the role, the bucket."""
