"""Looking at runs from outside: the event log, OpenTelemetry, and the diagnosis of `simkit doctor`."""
