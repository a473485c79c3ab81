#!/usr/bin/env python
"""FastReID's ``train_net.py`` for switchable models; see ``switchablecompat.train_net``."""

import startup  # noqa: F401  (before FastReID is needed)
from switchablecompat.errors import exit_on_input_error
from switchablecompat.train_net import main

if __name__ == "__main__":
    exit_on_input_error(main)
