"""What is run where there is a GPU, in a few minutes: tests, ratios, and short trainings; see docs/gpu.md."""
