#!/usr/bin/env python
"""FastReID's entry point for this project; the same as ``tools/train_net.py``.

Inside a FastReID checkout (``tools/install_into_fastreid.py``) it runs with that checkout's FastReID.
"""

import os
import sys
from pathlib import Path

if "GOMP_SPINCOUNT" not in os.environ:  # as tools/startup.py does, before torch is imported
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

CHECKOUT = Path(__file__).absolute().parents[2]  # of the path it was called by: the file may be a link
if (CHECKOUT / "fastreid" / "__init__.py").is_file():
    sys.path.insert(1, str(CHECKOUT))  # behind this folder, before an installed FastReID

from switchablecompat.errors import exit_on_input_error  # noqa: E402
from switchablecompat.train_net import main  # noqa: E402

if __name__ == "__main__":
    exit_on_input_error(main)
