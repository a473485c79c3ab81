"""The same as ``switchablecompat profile-precisions``."""

from startup import command

if __name__ == "__main__":
    command("profile-precisions")
