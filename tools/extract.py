"""The same as ``switchablecompat extract``."""

from startup import command

if __name__ == "__main__":
    command("extract")
