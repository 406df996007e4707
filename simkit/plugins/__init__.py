"""Extension points of simkit: components and recipes by name, their flags, prompts and optional libraries."""
