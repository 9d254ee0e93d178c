"""An owner that exposes in real time under a guard, in a process of its own; started by `test_watchdog`.

Called with the home and the instrument's file. It says ``lit`` when the beam is on, and ends when the guard is lost.
"""

import sys
import time
from pathlib import Path

from devices.guard import Unwatched, WatchedGate, guarding
from devices.registry import open_instrument
from devices.safety import exposed
from stem4d.dose import DoseLease
from stem4d.instrument import InstrumentFile
from storage.documents import load_model
from tests.devices.simulator_world import prepared_anywhere, raster

SCAN = raster((100, 100), step_nm=0.05, dwell_time_us=1000.0, flyback_us=5000.0)
"""Ten seconds."""


def main(path: Path, home: Path) -> None:
    """Expose until somebody ends it."""
    file = load_model(path, InstrumentFile)
    with guarding(file, path, home, lambda: open_instrument(file, home)) as guard:
        instrument = open_instrument(file, home)
        guard.begin(instrument)
        prepared_anywhere(instrument, position="sample", scan=SCAN)
        instrument.detector.arm()
        lease = DoseLease("sample", 1.0, 7, time.monotonic() + 60)
        with exposed(WatchedGate(instrument.gate, guard), lease):
            instrument.scan.start()
            print("lit", flush=True)
            while not guard.lost:
                time.sleep(0.01)
        print(f"lost: {guard.lost}", flush=True)
        try:
            WatchedGate(instrument.gate, guard).unblank(lease)
        except Unwatched:
            print("refused", flush=True)
        guard.ready()
        guard.check()
        print("watched again", flush=True)
        instrument.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
