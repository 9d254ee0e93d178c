"""A mask of bad pixels that the user supplies to an inspection: a .npy file of the pattern's shape."""

from pathlib import Path

import numpy as np

from stem4d.calibrate.pixels import Mask
from stem4d.errors import BadInput
from storage.read import require_file


def read_mask(path: Path, detector_shape: tuple[int, int]) -> Mask:
    """Read a mask (det_y, det_x), true or not 0 where a pixel is to be left out.

    Raises
    ------
    BadInput
        If it is no .npy file of integers or booleans, or has another shape than the patterns.
    """
    require_file(path)
    try:
        # Mapped, not read: its header may claim anything.
        found = np.load(path, mmap_mode="r", allow_pickle=False)
        kind = found.dtype.kind
    except (OSError, ValueError, EOFError, AttributeError, SyntaxError) as error:
        raise BadInput(
            field="--mask",
            value=path.name,
            limit="must be a .npy file with one array",
            remedy="Write it with numpy.save(path, mask), true where a pixel is bad",
        ) from error
    if kind not in "bui" or found.shape != detector_shape:
        raise BadInput(
            field="--mask",
            value=f"{found.dtype} {found.shape}",
            limit=f"must be booleans or integers of the patterns' shape {detector_shape}",
        )
    mask: Mask = np.asarray(found != 0)
    if mask.all():
        raise BadInput(field="--mask", value=f"all {mask.size} pixels bad", limit="must leave at least one pixel")
    return mask
