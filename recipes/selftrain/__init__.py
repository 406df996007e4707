"""Self-training experiment: a model learns from its own harvest, against a control, over several seeds."""
