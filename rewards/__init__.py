"""Rewards: what counts as success."""
