"""Values that everything shares: messages, conversations, tasks, limits, events. Imports nothing but errors."""
