"""Tool servers and the worlds they serve."""
