"""What a run takes on each instance type: time and money before anything is sent."""
