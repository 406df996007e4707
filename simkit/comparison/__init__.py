"""What may be claimed of two or more runs on the same tasks: paired statistics, tables and pictures."""
