"""Whether general ability is kept: benchmarks, judged dialogues and perplexity, before and after training."""
