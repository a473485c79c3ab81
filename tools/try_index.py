"""The same as ``switchablecompat try-index``."""

from startup import command

if __name__ == "__main__":
    command("try-index")
