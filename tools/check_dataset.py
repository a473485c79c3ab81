"""The same as ``switchablecompat check``."""

from startup import command

if __name__ == "__main__":
    command("check")
