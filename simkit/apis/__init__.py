"""HTTP APIs of others, asked on behalf of branches: bounded requests, and sessions that branches do not share."""
