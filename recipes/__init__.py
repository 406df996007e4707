"""Whole experiments, one file each, to be read top to bottom and copied."""
