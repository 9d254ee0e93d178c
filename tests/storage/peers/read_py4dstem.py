"""Opens a file in py4DSTEM and prints what it finds; runs in py4DSTEM's environment."""

import json
import sys
from contextlib import redirect_stdout

import hdf5plugin  # noqa: F401

if __name__ == "__main__":
    with redirect_stdout(sys.stderr):
        import py4DSTEM

        cube = py4DSTEM.read(sys.argv[1])
    calibration = cube.calibration
    found = {
        "class": type(cube).__name__,
        "shape": list(cube.data.shape),
        "scan": [calibration.get_R_pixel_size(), calibration.get_R_pixel_units()],
        "detector": [calibration.get_Q_pixel_size(), calibration.get_Q_pixel_units()],
        "sum": float(cube.data[...].sum()),
        "corner": cube.data[:, :, 0, 0].ravel().tolist(),
    }
    print(json.dumps(found))
