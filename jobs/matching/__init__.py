"""Matching: which queued replicas a node may have, why it gets none, and which tiers could take a job."""
