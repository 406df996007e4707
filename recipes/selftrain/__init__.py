"""The self-training experiment: a model that learns from its own harvest, against a control, over several seeds."""
