"""``python -m benchmarks``: every bench, or the one that ONLY names; prints the table and writes bench.json."""

import os
import sys
from pathlib import Path

from benchmarks import accumulator, harness

if __name__ == "__main__":
    sys.exit(harness.run({"accumulator": accumulator.run}, os.environ.get("ONLY", ""), Path("bench.json")))
