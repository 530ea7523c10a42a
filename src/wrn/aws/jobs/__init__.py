"""Training jobs: options, request, launch; then status, log, progress, resume and fetch."""
