"""What measures the documentation's figures: speed and memory as ratios, backbones, generated data, search engines.

Each module has a tool of ``tools/`` that reads its command line before torch is loaded.
"""

import switchablecompat  # noqa: F401  (before anything of FastReID)
import switchablecompat_command

switchablecompat_command.load()  # the tools postpone it
