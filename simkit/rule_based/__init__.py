"""Understanding of plain English with an ontology, shared by rule-based agents, users and rewards."""
