"""Providers: models behind an endpoint, and scripted ones."""
