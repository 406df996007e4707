"""Worlds from files: a folder with tasks, tools, data and rules."""
