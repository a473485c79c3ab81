"""Every tool imports this first. Without the package it prints one line on how to install it, and exits with 2.

``switchablecompat`` is then imported without torch and FastReID, so that help and bad usage answer at once. A tool
calls :func:`load`, or imports ``benchmarks``, when there is work.
"""

import sys
from pathlib import Path
from typing import NoReturn

try:
    import switchablecompat_command
except ImportError:
    hint = "SwitchableCompat is not installed: pip install . (in the repository's folder), or use make demo"
    print(f"error: {hint}", file=sys.stderr)
    sys.exit(2)

switchablecompat_command.prepare()
switchablecompat_command.postponed = True
load = switchablecompat_command.load
sys.path.append(str(Path(__file__).parents[1]))  # to import benchmarks/ and gpu/


def command(name: str) -> NoReturn:
    """Run a command of the package from a script of this folder."""
    switchablecompat_command.main(name)
