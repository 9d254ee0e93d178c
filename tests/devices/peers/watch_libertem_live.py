"""LiberTEM-live watches what somebody else arms and triggers: it prints the sum of each frame of so many series."""

import json
import sys

import numpy as np
from libertem.udf.sumsigudf import SumSigUDF
from libertem_live.api import LiveContext

if __name__ == "__main__":
    rest, data, series = (int(each) for each in sys.argv[1:])
    with LiveContext.make_with("inline") as context:
        place = {"api_host": "127.0.0.1", "api_port": rest, "data_host": "127.0.0.1", "data_port": data}
        with context.make_connection("dectris").open(**place, buffer_size=64) as connection:
            for _ in range(series):
                print("listening", flush=True)
                pending = connection.wait_for_acquisition(timeout=120.0)
                assert pending is not None, "nobody armed the detector"
                scan = context.make_acquisition(
                    conn=connection, nav_shape=(8, 9), frames_per_partition=16, pending_aq=pending
                )
                sums = context.run_udf(dataset=scan, udf=SumSigUDF())["intensity"].data
                print(json.dumps([float(each) for each in np.ravel(sums)]), flush=True)
