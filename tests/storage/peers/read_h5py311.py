"""Opens a file in HDF5 1.14 and prints what it finds; runs in an environment with h5py 3.11."""

import json
import sys

import h5py
import hdf5plugin  # noqa: F401


def plain(value: object) -> object:
    """An attribute as JSON takes it."""
    return value.decode() if isinstance(value, bytes) else getattr(value, "item", lambda: value)()


if __name__ == "__main__":
    with h5py.File(sys.argv[1], "r") as file:
        data = file["entry/data/data"]
        found = {
            "hdf5": h5py.version.hdf5_version,
            "shape": list(data.shape),
            "units": [file["entry/data"][axis].attrs["units"] for axis in file["entry/data"].attrs["axes"]],
            "sum": float(data[...].sum()),
            "corner": data[:, :, 0, 0].ravel().tolist(),
            "metadata": {name: plain(value) for name, value in file["entry/nightbeam/metadata"].attrs.items()},
            "ledger": int(file["entry/nightbeam/ledger/state"][...].sum()),
            "map": file["entry/online/virtual/BF/data"][...].tolist(),
        }
        file.visititems(lambda _, item: dict(item.attrs))  # every object and attribute can be opened
    print(json.dumps(found))
