"""The same as ``switchablecompat compare``."""

from startup import command

if __name__ == "__main__":
    command("compare")
