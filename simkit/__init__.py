"""simkit."""
