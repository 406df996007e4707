"""Training data: from harvested episodes to examples, files and checks. Needs no torch."""
