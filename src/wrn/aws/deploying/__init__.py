"""Deploying: create what is missing, keep what exists, and start the job where there is capacity."""
