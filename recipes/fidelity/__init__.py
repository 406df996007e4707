"""Simulated users measured against people."""
