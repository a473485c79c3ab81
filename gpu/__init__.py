"""Checks for a machine with a GPU, in a few minutes: tests, ratios, and short trainings; see docs/gpu.md."""
