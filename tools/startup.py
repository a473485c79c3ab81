"""Imported first by every tool: without FastReID there is one line that says how to get it, and exit code 2."""

import sys

try:
    import switchablecompat  # noqa: F401
except ImportError as error:
    if error.name not in ("fastreid", "switchablecompat"):
        raise
    hint = "SwitchableCompat is not installed: pip install . (in the repository's folder), or use make demo"
    print(f"error: {error if error.name == 'fastreid' else hint}", file=sys.stderr)
    sys.exit(2)
