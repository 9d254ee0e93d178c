"""Imported by the process that forked workers start from: all that a worker loads, the compiled kernels included."""

import numpy as np

import devices.worker
import tests.faults.watched_source  # noqa: F401 - the source that its workers unpickle
from stem4d.kernels import block_kernel
from storage.unpack_kernel import unpack_kernel
from tests.packing import bitshuffle

assert devices.worker
block_kernel(np.dtype(np.uint16))
unpack_kernel(np.dtype(np.uint16))
bitshuffle()
