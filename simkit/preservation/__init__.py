"""Preservation of general ability: benchmarks, judged questions and perplexity, before and after training."""
