"""tau2-bench: customer service in which the user, too, may have tools, over tables that both sides change."""
