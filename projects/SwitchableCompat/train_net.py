#!/usr/bin/env python
"""FastReID's entry point for this project; the same as ``tools/train_net.py``.

Inside a FastReID checkout (``tools/install_into_fastreid.py``) it runs with that checkout's FastReID.
"""

from switchablecompat_command import main

if __name__ == "__main__":
    main("train")
