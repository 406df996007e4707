"""Rewards, which decide what counts as success."""
