"""What exists in the account, what it costs, and its removal."""
