"""The actor runtime: components behind typed addresses, with mailboxes, deadlines and cancellation."""
