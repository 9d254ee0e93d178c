"""One 4D scan on Nion's simulated microscope, headless, saved as .npz with the truth it states.

Usage: python scan_usim.py FILE.npz CONVERGENCE_MRAD CENTRE_Y_MRAD CENTRE_X_MRAD
"""

import json
import os
import sys
import tempfile
from pathlib import Path

import numpy as np


def main() -> None:
    """Set up, scan 4 x 4, save."""
    target = Path(sys.argv[1]).resolve()
    convergence, centre_y, centre_x = (float(text) * 1e-3 for text in sys.argv[2:5])
    os.chdir(tempfile.mkdtemp())  # the configuration makes and removes folders where it stands
    from nion.instrumentation import DriftTracker, HardwareSource, camera_base, scan_base
    from nion.usim_device import DeviceConfiguration
    from nion.utils import Geometry

    HardwareSource.run()
    DriftTracker.run()
    camera_base.run(Path.cwd())
    scan_base.run(Path.cwd())
    scan_base.SYNCHRONIZED_SCAN_TIMEOUT = 120  # loaded machines are slower than its guard allows
    configuration = DeviceConfiguration.AcquisitionContextConfiguration()
    configuration.run()
    sources = HardwareSource.HardwareSourceManager()
    scan = sources.get_hardware_source_for_hardware_source_id("usim_scan_device")
    camera = sources.get_hardware_source_for_hardware_source_id("usim_ronchigram_camera")
    stem = configuration.instrument
    stem.SetVal("S_VOA", 1)
    stem.SetVal("ConvergenceAngle", convergence)
    stem.SetVal2D("CAperture", Geometry.FloatPoint(y=centre_y, x=centre_x))
    stem.SetVal("C10", 500e-9)
    stem.SetVal("BeamCurrent", 150e-12)
    settings = scan.get_frame_parameters(0)
    settings.pixel_size = Geometry.IntSize(4, 4)
    settings.fov_nm = 4
    exposing = camera.get_frame_parameters(0)
    exposing.exposure_ms, exposing.binning = 1, 4
    done = scan.grab_synchronized(scan_frame_parameters=settings, camera=camera, camera_frame_parameters=exposing)
    data = done[1][0]
    scale = data.dimensional_calibrations[-1]
    stated = {
        "mrad_per_pixel": 1e3 * scale.scale,
        "middle_px": [-each.offset / each.scale for each in data.dimensional_calibrations[-2:]],
        "units": scale.units,
        "convergence_semi_angle_mrad": 1e3 * stem.GetVal("ConvergenceAngle"),
        "metadata": json.loads(json.dumps(data.metadata, default=str)),
    }
    np.savez_compressed(target, frames=np.asarray(data.data), stated=json.dumps(stated))
    sys.stdout.flush()
    os._exit(0)  # its threads would keep the process


main()
