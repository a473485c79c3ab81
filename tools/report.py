"""The same as ``switchablecompat report``."""

from startup import command

if __name__ == "__main__":
    command("report")
