"""Searches: strategies for playing a task, as one conversation (rollout) or as a tree of conversations (JOSH)."""
