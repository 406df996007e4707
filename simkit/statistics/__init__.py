"""Statistics of scores: confidence intervals, means over tasks, pass^k."""
