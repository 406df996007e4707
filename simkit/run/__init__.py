"""Runs: start the components, play tasks concurrently, record, resume and summarize."""
