"""The same as ``switchablecompat train``."""

from startup import command

if __name__ == "__main__":
    command("train")
