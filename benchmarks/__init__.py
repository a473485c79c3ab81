"""Measures what the documentation shows: speed and memory as ratios, backbones, generated data, search engines.

``tools/`` has the command lines. They are read before torch is loaded.
"""

import switchablecompat  # noqa: F401  (before anything of FastReID)
import switchablecompat_command

switchablecompat_command.load()  # the tools postpone it
