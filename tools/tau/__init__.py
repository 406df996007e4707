"""tau-bench: retail and airline customer service over databases that the tools change."""
