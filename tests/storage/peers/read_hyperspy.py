"""Opens a file in HyperSpy and prints what it finds; runs in HyperSpy's environment."""

import json
import sys
import warnings

import hdf5plugin  # noqa: F401
import hyperspy.api as hs

if __name__ == "__main__":
    warnings.simplefilter("ignore")
    signal = hs.load(sys.argv[1], reader="nexus", use_default=True)
    axes = signal.axes_manager._axes
    found = {
        "class": type(signal).__name__,
        "shape": list(signal.data.shape),
        "navigate": [axis.navigate for axis in axes],
        "names": [axis.name for axis in axes],
        "units": [str(axis.units) for axis in axes],
        "scales": [axis.scale for axis in axes],
        "offsets": [axis.offset for axis in axes],
        "sum": float(signal.data.sum()),
        "corner": signal.data[:, :, 0, 0].ravel().tolist(),
    }
    print(json.dumps(found))
