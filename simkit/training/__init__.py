"""Training of models on harvested examples, with TRL's trainers."""
