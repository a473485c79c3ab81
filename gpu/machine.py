"""Describe this machine in one line of JSON. Without a GPU this is an error, except in a dry run."""

import argparse
import json

import torch

from switchablecompat.provenance import hardware, versions


def main() -> None:
    """Print the line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--dry-run", action="store_true")
    if not (torch.cuda.is_available() or parser.parse_args().dry_run):
        raise SystemExit("error: there is no CUDA device; --dry-run rehearses on a CPU")
    found = {"hardware": hardware(), "versions": versions()}
    if torch.cuda.is_available():
        found["versions"] |= {"cuda": str(torch.version.cuda), "cudnn": str(torch.backends.cudnn.version())}
        found["hardware"]["memory_GiB"] = round(torch.cuda.get_device_properties(0).total_memory / 2**30, 1)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
