"""A plugin of pytest that prints each failure at once: the part may be cut before pytest's own report at the end."""

from typing import Any

SLOW = 2.0  # seconds from which on the time of a test is worth a line


class Failures:
    """Writes the traceback of a failed test, and the time of a slow one, behind its outcome."""

    def __init__(self, config: Any) -> None:
        self.config = config

    def pytest_runtest_logreport(self, report: Any) -> None:
        """Called by pytest after each phase of a test."""
        reporter = self.config.pluginmanager.get_plugin("terminalreporter")
        if report.failed:
            reporter.write_line("")
            reporter.write_line(report.longreprtext)
        if report.when == "call" and report.duration > SLOW:
            reporter.write_line(f" took {report.duration:.1f} s")


def pytest_configure(config: Any) -> None:
    """Called by pytest at its start."""
    config.pluginmanager.register(Failures(config))
