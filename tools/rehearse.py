"""The same as ``switchablecompat rehearse``."""

from startup import command

if __name__ == "__main__":
    command("rehearse")
