"""Agents, the components under evaluation."""
