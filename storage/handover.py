"""The files of a hand-over to a multislice engine: patterns, phaser's parameter file, and what they hold in words."""

from pathlib import Path

import numpy as np
import yaml

from stem4d.analyse.method import Given, Rows
from stem4d.analyse.ptychography.geometry import crop_of
from stem4d.analyse.ptychography.handover import not_known, numbers, parameters
from stem4d.analyse.ptychography.options import PtychographyOptions
from stem4d.analyse.ptychography.patterns import cut, mark_of, stored_as
from stem4d.errors import BadInput

PATTERNS, PARAMETERS, TOLD = "patterns.npy", "phaser.yaml", "README.txt"
ROWS_AT_ONCE = 4


def write_handover(folder: Path, given: Given, options: PtychographyOptions, rows: Rows, source: str = "") -> Path:
    """Write a folder that phaser runs in, ``phaser run phaser.yaml``, a few rows in memory at a time.

    Parameters
    ----------
    folder : Path
        Made; it must not be there yet, or be empty.
    given, options
        As of the method; ``thickness_nm`` has to be known.
    rows : Rows
        Frames.
    source : str
        Where they come from, for the words that lie beside them.

    Returns
    -------
    Path
        The parameter file.

    Raises
    ------
    BadInput
        If the folder holds something.
    NotPossible
        As `stem4d.analyse.ptychography.handover.parameters`, before anything is written.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise BadInput(field="folder", value=str(folder), limit="must be new or empty")
    crop = crop_of(given, rows.scan_shape, rows.detector_shape)
    content = parameters(given, options, crop, rows.scan_shape, PATTERNS, "nightbeam")
    folder.mkdir(parents=True, exist_ok=True)
    shape = (*rows.scan_shape, crop.size, crop.size)
    stored = np.lib.format.open_memmap(folder / PATTERNS, mode="w+", dtype=np.float32, shape=shape)
    mark = mark_of(stored_as(rows.dtype, given.full_scale))
    missing = made_up = 0
    for first in range(0, rows.scan_shape[0], ROWS_AT_ONCE):
        stop = min(first + ROWS_AT_ONCE, rows.scan_shape[0])
        part = cut(given, rows, crop.corner_px, crop.size, first, stop)
        stored[first:stop], filled = numbers(part["patterns"], part["usable"], mark)
        made_up += filled
        missing += int((~part["usable"]).sum())
    stored.flush()
    (folder / TOLD).write_text(
        (f"Made from {source}.\n" if source else "")
        + f"{PATTERNS}: counts as float32 (scan_y, scan_x, det_y, det_x) = {shape}, zero beam at pixel\n"
        f"{crop.size // 2} within half a pixel (mean rest {crop.off_px.mean((0, 1)).round(3).tolist()} px).\n"
        f"{missing} positions without a usable frame hold NaN; {made_up} pixels that were bad, at full scale or\n"
        "without a number hold the mean of their neighbours.\n"
        f"{PARAMETERS}: for phaserEM 0.3, in this folder: phaser run {PARAMETERS}\n"
        + "".join(f"{one}\n" for one in not_known(given))
    )
    path = folder / PARAMETERS
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return path
