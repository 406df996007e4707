"""User simulators, which play the customer."""
