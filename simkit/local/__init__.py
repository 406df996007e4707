"""Models in this process: batched generation with transformers, and the server that gives it to everybody."""
