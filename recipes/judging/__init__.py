"""Recipes in which a model judges recorded conversations."""
