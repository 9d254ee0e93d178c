"""py4DSTEM's parallax, timed in its own environment: preprocess, reconstruct, fit and correct.

One JSON line in, one out. The aligned image and the corrected one go into a file.
"""

import json
import sys
import time
import warnings

import numpy as np

warnings.filterwarnings("ignore")
PROTOCOL = sys.stdout
sys.stdout = sys.stderr  # it prints what it does

import matplotlib  # noqa: E402

matplotlib.use("Agg")
import py4DSTEM  # noqa: E402


def parallax(frames, energy_kev, step_a, mrad_per_pixel, to):
    cube = py4DSTEM.DataCube(np.load(frames))
    cube.calibration.set_R_pixel_size(step_a)
    cube.calibration.set_R_pixel_units("A")
    cube.calibration.set_Q_pixel_size(mrad_per_pixel)
    cube.calibration.set_Q_pixel_units("mrad")
    begun = time.perf_counter()
    made = py4DSTEM.process.phase.Parallax(
        datacube=cube, energy=energy_kev * 1e3, verbose=False, object_padding_px=(16, 16)
    )
    made.preprocess(edge_blend=8.0, plot_average_bf=False, normalize_order=0)
    made.reconstruct(progress_bar=False, plot_aligned_bf=False, plot_convergence=False)
    image = made.object_cropped
    made.aberration_fit(plot_CTF_comparison=False, plot_BF_shifts_comparison=False)
    made.aberration_correct(plot_corrected_phase=False)
    seconds = time.perf_counter() - begun
    np.savez(to, aligned=image, corrected=made.object_cropped)
    return {
        "seconds": seconds,
        "defocus_nm": float(made.aberrations_C1) / 10,
        "rotation_deg": float(np.degrees(made.rotation_Q_to_R_rads)),
        "angles": int(made._num_bf_images),
    }


for line in sys.stdin:
    question = json.loads(line)
    PROTOCOL.write(json.dumps(parallax(**question)) + "\n")
    PROTOCOL.flush()
