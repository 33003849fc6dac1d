"""bench/RESULTS.md: each script keeps one section of it."""

import os
import platform
from datetime import UTC, datetime
from pathlib import Path

RESULTS = Path(__file__).with_name("RESULTS.md")
TITLE = (
    "# Results\n\nEach section is written by the script that it names; run that script to measure on your machine.\n"
)


def machine() -> str:
    """The machine in a few words, and the date."""
    names = {line.split(":")[1].strip() for line in _cpuinfo() if line.startswith("model name")}
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{', '.join(names) or platform.processor()}, {cores} cores, {datetime.now(UTC).date()}"


def table(header: list[str], rows: list[list[str]]) -> str:
    """A Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def record(section: str, text: str) -> None:
    """Replace the section called `section`, or add it."""
    parts = (RESULTS.read_text("utf-8") if RESULTS.exists() else TITLE).split("\n## ")
    kept = [part for part in parts[1:] if part.split("\n")[0] != section]
    sections = sorted([*kept, f"{section}\n\n{text.strip()}\n"])
    RESULTS.write_text("\n## ".join([parts[0].rstrip() + "\n", *(part.rstrip() + "\n" for part in sections)]), "utf-8")
    print(f"## {section}\n\n{text}")


def _cpuinfo() -> list[str]:
    path = Path("/proc/cpuinfo")
    return path.read_text().splitlines() if path.exists() else []
