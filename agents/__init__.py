"""Agents: who takes the agent's turn."""
