"""Bytes to an endpoint and back: URLs, connections, HTTP/1.1, secrets."""
