"""What is worth knowing of a family of sub-models: its report, thresholds, lost queries, and what it must reach."""
