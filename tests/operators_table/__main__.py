"""Write docs/operators.md and the figures in README.md anew."""

from __future__ import annotations

import argparse
import re

from tests.operators_table import counting, table


def main() -> None:
    """Renew what is asked for, then the file."""
    parser = argparse.ArgumentParser(prog="python -m tests.operators_table", description=__doc__)
    parser.add_argument("--count", action="store_true", help="count comparisons with onnxruntime anew")
    arguments = parser.parse_args()
    if arguments.count:
        counting.renew()
    table.PATH.write_text(table.document(), encoding="utf-8")
    readme = table.README.read_text(encoding="utf-8")
    readme = re.sub(r"(?m)^ONNX backend suite \(.*$", table.summary(), readme)
    table.README.write_text(readme, encoding="utf-8")


if __name__ == "__main__":
    main()
