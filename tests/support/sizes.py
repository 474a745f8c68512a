"""Sizes of the repository: lines by folder, longest files and functions, the hot path.

`make sizes` writes them into docs/development.md.
"""

import argparse
import ast
import re
import statistics
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from harness.repository import ROOT

ARCHITECTURE: Final = ROOT / "docs/architecture.md"
DEVELOPMENT: Final = ROOT / "docs/development.md"
PRODUCT: Final = ("pipeline", "deployments")
SATELLITES: Final = ("commands", "tuning", "harness", "benchmarks")
BEGIN, END = "<!-- sizes: make sizes -->", "<!-- /sizes -->"


def main() -> None:
    """Print the tables, or write them into the page."""
    parser = argparse.ArgumentParser(description="Sizes of the repository")
    parser.add_argument("--write", action="store_true", help="put the tables into docs/development.md")
    tables = report()
    if parser.parse_args().write:
        before, rest = DEVELOPMENT.read_text("utf-8").split(BEGIN)
        DEVELOPMENT.write_text(f"{before}{BEGIN}\n\n{tables}\n\n{END}{rest.split(END)[1]}", "utf-8")
    else:
        print(tables)  # noqa: T201 - this is its output


def report() -> str:
    """Return lines by folder, product against satellites, and the hot path, as Markdown."""
    rows = ["| folder | files | lines | median file | longest file | median function | longest function |"]
    rows.append("|---|---:|---:|---:|---|---:|---|")
    lines = {folder: _folder(folder, rows) for folder in (*PRODUCT, *SATELLITES, "tests")}
    product, satellites = (sum(lines[folder] for folder in group) for group in (PRODUCT, SATELLITES))
    hot, called = hot_path()
    return "\n".join(
        [
            *rows,
            "",
            f"- Product (`{'`, `'.join(PRODUCT)}`): {product:,} lines.",
            f"- Satellites (`{'`, `'.join(SATELLITES)}`): {satellites:,} lines, "
            f"{satellites / product:.2f} of the product.",
            f"- Hot path: {_size(hot)} hand an image on; {_size(hot | called)} with those that they call.",
        ]
    )


def hot_path() -> tuple[set[str], set[str]]:
    """Return the files that hand an image on, and the files that those call.

    The source is "Follow one image" in docs/architecture.md.
    """
    section = ARCHITECTURE.read_text("utf-8").split("## Follow one image")[1].split("\n## ")[0]
    hot, called = set[str](), set[str]()
    for row in re.findall(r"^\| \d+ \|.*$", section, re.MULTILINE):
        *_, file, others, _ = row.split("|")
        hot.update(_linked(file))
        called.update(_linked(others))
    return hot, called


def _linked(cell: str) -> list[str]:
    return re.findall(r"\]\(\.\./([^)]+)\)", cell)


def _folder(folder: str, rows: list[str]) -> int:
    """Append a row for a folder; return its lines."""
    files = {path: _count(path) for path in _python_files(folder)}
    if not files:
        return 0
    functions = [size for path in files for size in _functions(path)]
    longest, (most, function) = max(files, key=lambda path: files[path]), max(functions)
    rows.append(
        f"| `{folder}` | {len(files)} | {sum(files.values()):,} | {statistics.median(files.values()):.0f} "
        f"| {files[longest]} `{longest.relative_to(ROOT)}` | "
        f"{statistics.median(lines for lines, _ in functions):.0f} | {most} `{function}` |"
    )
    return sum(files.values())


def _python_files(folder: str) -> list[Path]:
    listed = subprocess.run(["git", "ls-files", f"{folder}/*.py"], cwd=ROOT, capture_output=True, text=True, check=True)  # noqa: S607
    return [path for name in listed.stdout.splitlines() if (path := ROOT / name).exists()]


def _functions(path: Path) -> Iterator[tuple[int, str]]:
    """Yield lines and name of each function."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield (node.end_lineno or node.lineno) - node.lineno + 1, f"{path.stem}.{node.name}"


def _size(paths: Iterable[str]) -> str:
    counts = [_count(ROOT / path) for path in paths]
    return f"{len(counts)} files ({sum(counts):,} lines)"


def _count(path: Path) -> int:
    return len(path.read_text("utf-8").splitlines())


if __name__ == "__main__":
    main()
