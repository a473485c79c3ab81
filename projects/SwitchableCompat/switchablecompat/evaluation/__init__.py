"""Exact grid evaluation: features, the retrieval task, ranking and the grid."""
