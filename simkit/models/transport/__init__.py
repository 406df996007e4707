"""HTTP transport to an endpoint: URLs, connections, HTTP/1.1, secrets."""
