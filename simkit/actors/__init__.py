"""The actor runtime: components behind typed addresses, with bounded concurrency, sessions, deadlines, cancellation."""
