"""Every tool imports this first. Without the package it prints one line on how to install it, and exits with 2."""

import sys
from typing import NoReturn

try:
    from switchablecompat_command import main, prepare
except ImportError:
    hint = "SwitchableCompat is not installed: pip install . (in the repository's folder), or use make demo"
    print(f"error: {hint}", file=sys.stderr)
    sys.exit(2)

prepare()


def command(name: str) -> NoReturn:
    """Run a command of the package from a script of this folder."""
    main(name)
