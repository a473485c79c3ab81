"""The same as ``switchablecompat compare-precision``."""

from startup import command

if __name__ == "__main__":
    command("compare-precision")
