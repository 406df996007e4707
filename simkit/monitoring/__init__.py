"""Monitoring of runs: the event log, OpenTelemetry, and the diagnosis of `simkit doctor`."""
