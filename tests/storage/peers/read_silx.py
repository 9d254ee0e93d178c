"""Opens a file with silx's NXdata rules, which h5web shares, and prints what it finds; runs in silx's environment."""

import json
import sys

import hdf5plugin  # noqa: F401
import silx.io
from silx.io import nxdata

if __name__ == "__main__":
    with silx.io.open(sys.argv[1]) as file:
        default = nxdata.get_default(file)
        maps = {
            name: nxdata.NXdata(file["entry/online"][name]).is_valid
            for name in file["entry/online"]
            if name != "virtual"
        }
        found = {
            "valid": default.is_valid,
            "path": default.group.name,
            "interpretation": default.interpretation,
            "shape": list(default.signal.shape),
            "names": default.axes_dataset_names,
            "units": [axis.attrs["units"] for axis in default.axes],
            "steps": [float(axis[1] - axis[0]) for axis in default.axes],
            "sum": float(default.signal[...].sum()),
            "corner": default.signal[:, :, 0, 0].ravel().tolist(),
            "maps": maps,
        }
    print(json.dumps(found))
