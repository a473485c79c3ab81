"""The report on a family of sub-models: thresholds, lost queries, mixed galleries, and requirements."""
