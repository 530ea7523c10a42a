"""Running the job on this machine, without AWS and without Docker."""
