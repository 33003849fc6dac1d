"""What commands print: answers to standard output, warnings to standard error, each line at once."""

import sys
from collections.abc import Iterable


def show(lines: Iterable[str]) -> None:
    """Print answers."""
    for line in lines:
        sys.stdout.write(f"{line}\n")
        sys.stdout.flush()


def warn(line: str) -> None:
    """Print a warning."""
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()
