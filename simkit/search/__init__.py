"""Search: how a task is played, as one conversation (rollout) or as a tree of them (JOSH)."""
