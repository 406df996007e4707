"""Plain English against an ontology: what rule-based agents, users and rewards share."""
