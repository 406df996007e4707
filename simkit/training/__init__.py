"""From the harvest to a trained model: examples, their checks, and TRL's trainers."""
