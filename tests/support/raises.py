"""Lists each `raise` that no test has reached; `make coverage` runs it after the suite."""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

from coverage import Coverage

FOLDERS = ("deployments", "pipeline")

NEEDS_CUDA = {"cuda.py": {"cudaHostRegister"}}
"""Raised only where there is a CUDA device: files, and a word of the message."""


def unreached(coverage: Coverage) -> Iterator[str]:
    """Yield every raise statement that did not run, as `file:line: statement`."""
    for path in sorted(path for folder in FOLDERS for path in Path(folder).rglob("*.py")):
        source = path.read_text("utf-8")
        _, _, _, missing, _ = coverage.analysis2(str(path.absolute()))
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.Raise) and node.lineno in missing:
                statement = ast.get_source_segment(source, node) or ""
                if not any(word in statement for word in NEEDS_CUDA.get(path.name, ())):
                    yield f"{path}:{node.lineno}: {' '.join(statement.split())[:100]}"


def main() -> int:
    """Print the raise statements that no test reaches; the exit status says whether there are any."""
    coverage = Coverage()
    coverage.load()
    found = list(unreached(coverage))
    sys.stdout.write("".join(f"no test reaches {line}\n" for line in found) or "a test reaches every raise\n")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
