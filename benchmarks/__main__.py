"""``python -m benchmarks``: every bench, or the one that ONLY names; prints the table and writes bench.json."""

import os
import sys
from pathlib import Path

from benchmarks import (
    accumulator,
    dask,
    database,
    harness,
    live,
    multislice,
    orchestration,
    orientation,
    origin,
    plans,
    ptychography,
    quality,
    recorded,
    simulate,
    strain,
    stream,
    tcbf,
)

BENCHES = {
    "accumulator": accumulator.run,
    "dask": dask.run,
    "database": database.run,
    "live": live.run,
    "multislice": multislice.run,
    "orchestration": orchestration.run,
    "orientation": orientation.run,
    "origin": origin.run,
    "plans": plans.run,
    "ptychography": ptychography.run,
    "quality": quality.run,
    "recorded": recorded.run,
    "simulate": simulate.run,
    "strain": strain.run,
    "stream": stream.run,
    "tcbf": tcbf.run,
}

if __name__ == "__main__":
    sys.exit(harness.run(BENCHES, os.environ.get("ONLY", ""), Path("bench.json")))
