"""Every write to jobs, one noun a file."""
