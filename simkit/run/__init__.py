"""A run: components cast, tasks played at the same time, everything recorded, resumed and summed up."""
