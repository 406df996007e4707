"""Shared values: messages, conversations, tasks, limits, events. Imports only `simkit.errors`."""
