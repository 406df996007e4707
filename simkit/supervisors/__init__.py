"""Supervisors: who plays a work unit, and how."""
