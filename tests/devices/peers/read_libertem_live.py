"""LiberTEM-live arms a detector, takes a scan in each external trigger mode, and prints the sum of each frame."""

import json
import sys

import numpy as np
from libertem.udf.sumsigudf import SumSigUDF
from libertem_live.api import LiveContext

if __name__ == "__main__":
    rest, data = (int(each) for each in sys.argv[1:])
    with LiveContext.make_with("inline") as context:
        place = {"api_host": "127.0.0.1", "api_port": rest, "data_host": "127.0.0.1", "data_port": data}
        with context.make_connection("dectris").open(**place, buffer_size=64) as connection:
            for mode in ("exte", "exts"):
                controller = connection.get_active_controller(trigger_mode=mode, count_time=0.0005, frame_time=0.001)
                scan = context.make_acquisition(
                    conn=connection, nav_shape=(8, 9), frames_per_partition=16, controller=controller
                )
                sums = context.run_udf(dataset=scan, udf=SumSigUDF())["intensity"].data
                print(json.dumps([float(each) for each in np.ravel(sums)]))
