"""The built-in travel world."""
