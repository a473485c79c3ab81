#!/usr/bin/env python
"""FastReID's entry point for this project; the same as ``tools/train_net.py``."""

from switchablecompat.errors import exit_on_input_error
from switchablecompat.train_net import main

if __name__ == "__main__":
    exit_on_input_error(main)
