"""Time and cost of a run on each instance type, estimated before anything is sent."""
