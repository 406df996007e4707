"""Complete experiments, one file each, to read from top to bottom and to copy."""
