"""Models in this process: batched generation with transformers, and a server for other clients."""
