"""Recipes: whole experiments, one file each."""
