"""The same as ``switchablecompat profile``."""

from startup import command

if __name__ == "__main__":
    command("profile")
