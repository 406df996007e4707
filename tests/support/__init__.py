"""What several folders of tests use, and users do not."""
