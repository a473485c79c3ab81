"""Measured costs of sub-models, precisions and search engines."""
