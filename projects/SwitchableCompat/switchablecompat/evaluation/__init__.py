"""Exact grid evaluation: features, ranking, the grid and its report."""
