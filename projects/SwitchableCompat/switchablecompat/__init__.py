"""SwitchableCompat: switchable networks with self-compatible features, as a plug-in of FastReID.

Importing it makes an unmodified FastReID work on today's Python and PyTorch, and registers the plug-in's backbone,
head, meta-architecture and data sets in FastReID's registries. Only a command line postpones both, until it has work
to do.
"""

import sys

__version__ = "0.1.0"

if not getattr(sys.modules.get("switchablecompat_command"), "postponed", False):
    from . import fastreid_shims

    fastreid_shims.apply()  # before anything of FastReID is imported

    from . import data, modeling  # noqa: F401  (registration only)
    from .config import add_switchablecompat_config, check_switchablecompat_config, load_config
    from .errors import InputError
    from .modeling import extract_submodel

__all__ = [
    "InputError",
    "add_switchablecompat_config",
    "check_switchablecompat_config",
    "extract_submodel",
    "load_config",
]
