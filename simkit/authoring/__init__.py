"""Worlds of one's own: a folder to begin with, and checks of its tasks and tools."""
