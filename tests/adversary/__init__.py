"""Hostile containers on a real engine: each is contained with the right typed failure or is harmless, and the host is well after it."""
