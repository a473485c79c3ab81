"""The same as ``switchablecompat export``."""

from startup import command

if __name__ == "__main__":
    command("export")
