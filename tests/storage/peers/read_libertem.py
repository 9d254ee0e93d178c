"""Opens a file in LiberTEM in each of its three ways and prints what it finds; runs in LiberTEM's environment."""

import json
import sys

import hdf5plugin  # noqa: F401
from libertem.api import Context

if __name__ == "__main__":
    path = sys.argv[1]
    context = Context.make_with("inline")
    found = []
    for way, options in (("hdf5", {"ds_path": "/entry/data/data"}), ("hdf5", {}), ("auto", {})):
        data = context.load(way, path=path, **options)
        total = context.run(context.create_sum_analysis(data)).intensity.raw_data
        disk = context.create_disk_analysis(data, cx=0, cy=0, r=0.5)  # the one pixel at the corner
        corner = context.run(disk).intensity.raw_data
        found.append({"shape": list(data.shape), "sum": float(total.sum()), "corner": corner.ravel().tolist()})
    print(json.dumps(found))
