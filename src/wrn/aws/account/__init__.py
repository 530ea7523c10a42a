"""The account: session, credentials, errors, names, bucket, role, policies, quota, notifications."""
