"""The comparison of methods over seeds: suites, their runs, results and tables."""
