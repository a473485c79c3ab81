"""The same as ``switchablecompat search``."""

from startup import command

if __name__ == "__main__":
    command("search")
