"""py4DSTEM, timed in its own environment: Bragg disks of frames, and the origin of the undeflected disk.

One JSON line in, one out. ``disks`` finds disks with a sigmoid kernel and sub-pixel refinement and keeps their places;
``origin`` finds the undeflected disk of each frame.
"""

import json
import sys
import time
import warnings

import numpy as np

warnings.filterwarnings("ignore")
PROTOCOL = sys.stdout
sys.stdout = sys.stderr  # it prints what it does

import py4DSTEM  # noqa: E402
from py4DSTEM.process.calibration import get_origin_single_dp  # noqa: E402


def disks(frames, probe, radius_px, spacing_px, to):
    data = np.load(frames)
    cube = py4DSTEM.DataCube(data)
    template = py4DSTEM.Probe(np.load(probe))
    template.get_kernel(mode="sigmoid", radii=(radius_px, 4 * radius_px), bilinear=True)
    wanted = {
        "template": template.kernel,
        "corrPower": 1.0,
        "sigma_cc": 1.0,
        "edgeBoundary": int(radius_px),
        "minRelativeIntensity": 0.0,
        "minAbsoluteIntensity": 0.0,
        "minPeakSpacing": spacing_px / 2,
        "subpixel": "multicorr",
        "upsample_factor": 16,
        "maxNumPeaks": 60,
    }
    cube.find_Bragg_disks(data=(np.array([0, 0]), np.array([0, 1])), **wanted)
    begun, begun_cpu = time.perf_counter(), time.process_time()
    found = cube.find_Bragg_disks(**wanted)
    seconds, cpu_seconds = time.perf_counter() - begun, time.process_time() - begun_cpu
    peaks = [
        np.stack([np.full(len(one.data), n), one.data["qx"], one.data["qy"], one.data["intensity"]], axis=1)
        for n, one in enumerate(found.raw[y, x] for y in range(data.shape[0]) for x in range(data.shape[1]))
    ]
    np.save(to, np.concatenate(peaks))
    return {
        "seconds": seconds,
        "cpu_seconds": cpu_seconds,
        "frames": data.shape[0] * data.shape[1],
        "peaks": sum(map(len, peaks)),
    }


def origin(frames, radius_px, to):
    data = np.load(frames)
    get_origin_single_dp(data[0].astype(float), radius_px)
    begun = time.perf_counter()
    places = [get_origin_single_dp(one.astype(float), radius_px) for one in data]
    seconds = time.perf_counter() - begun
    np.save(to, np.array(places))
    return {"seconds": seconds, "frames": len(data)}


def main():
    for line in sys.stdin:
        question = json.loads(line)
        answer = {"disks": disks, "origin": origin}[question.pop("do")](**question)
        PROTOCOL.write(json.dumps(answer) + "\n")
        PROTOCOL.flush()


if __name__ == "__main__":
    main()
