"""The same as ``switchablecompat grid``."""

from startup import command

if __name__ == "__main__":
    command("grid")
