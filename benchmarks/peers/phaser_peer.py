"""phaserEM, timed in its own environment: ePIE in groups of 32 on jax, aberrations given.

Usage: phaser_peer.py FOLDER ITERATIONS. Reads FOLDER/counts.npy and FOLDER/about.json, writes FOLDER/phaser.npz (phase,
its pixel and the place of its first pixel from the first position), prints a JSON line of seconds and MiB.
"""

import json
import logging
import os
import sys
import time
from pathlib import Path

import numpy as np
from phaser.execute import Observer, execute_engine, initialize_reconstruction
from phaser.plan import ReconsPlan


class Clock(Observer):
    """Notes when each iteration ended."""

    def __init__(self):
        self.ended = []

    def start_engine(self, init_state):
        self.ended.append(time.perf_counter())

    def update_iteration(self, state, i, n, errors):
        np.asarray(state.object.data)
        self.ended.append(time.perf_counter())


def resident(field):
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) / 1024
    return 0.0


def main():
    logging.disable(logging.INFO)
    folder, iterations = Path(sys.argv[1]), int(sys.argv[2])
    about = json.loads((folder / "about.json").read_text())
    plan = ReconsPlan.from_data(
        {
            "name": "bench",
            "backend": "jax",
            "raw_data": {
                "type": "manual",
                "path": str(folder / "counts.npy"),
                "diff_step": about["mrad_per_pixel"],
                "kv": about["energy_kev"],
                "adu": 1.0,
            },
            "init": {
                "scan": {"type": "raster", "shape": about["scan"], "step_size": about["step_a"]},
                "probe": {
                    "type": "focused",
                    "conv_angle": about["alpha_mrad"],
                    "defocus": -10 * about["defocus_nm"],
                },
            },
            "engines": [
                {
                    "type": "conventional",
                    "niter": iterations,
                    "grouping": 32,
                    "noise_model": "amplitude",
                    "solver": "epie",
                    "group_constraints": [],
                    "iter_constraints": [],
                }
            ],
        }
    )
    clock = Clock()
    recons = initialize_reconstruction(plan, override_observers=clock)
    before = resident("VmRSS")
    recons = execute_engine(recons, plan.engines[0])
    state = recons.state.to_numpy() if hasattr(recons.state, "to_numpy") else recons.state
    sampling = state.object.sampling
    first = np.asarray(state.scan.data).reshape(-1, 2)[0]
    np.savez(
        folder / "phaser.npz",
        phase=np.angle(np.asarray(state.object.data)[0]),
        pixel_a=np.asarray(sampling.sampling),
        corner_a=np.asarray(sampling.corner) - first,
    )
    each = np.diff(clock.ended)
    print(
        json.dumps(
            {
                "iteration_s": float(np.median(each)),
                "with_compiling_s": float(each.mean()),
                "extra_mib": resident("VmHWM") - before,
            }
        )
    )
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
