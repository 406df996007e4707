"""What is wrapped around a model: retries, limits, budgets, recording and replay."""
