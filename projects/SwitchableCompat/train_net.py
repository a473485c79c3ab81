#!/usr/bin/env python
"""FastReID's entry point for this project; the same as ``tools/train_net.py``.

Inside a FastReID checkout (``tools/install_into_fastreid.py``) it runs with that checkout's FastReID.
"""

import sys
from pathlib import Path

CHECKOUT = Path(__file__).absolute().parents[2]  # of the path it was called by: the file may be a link
if (CHECKOUT / "fastreid" / "__init__.py").is_file():
    sys.path.insert(1, str(CHECKOUT))  # behind this folder, before an installed FastReID

if __name__ == "__main__":
    from switchablecompat_command import main

    main("train", "python projects/SwitchableCompat/train_net.py")
