"""Layers that wrap a model: retries, limits, budgets, recording and replay."""
