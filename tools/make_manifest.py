"""The same as ``switchablecompat manifest``."""

from startup import command

if __name__ == "__main__":
    command("manifest")
