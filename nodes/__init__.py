"""Nodes: who computes. Registration, authentication of hosts, profiles, tiers."""
