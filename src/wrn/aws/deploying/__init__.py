"""Sending it: what is missing is made, what is there is left, and the job is started where there is a machine."""
