"""Writes frames (numpy's file) with HyperSpy, a counter's bit depth in no place; runs in HyperSpy's environment."""

import sys
import warnings

import hyperspy.api as hs
import numpy as np

if __name__ == "__main__":
    warnings.simplefilter("ignore")
    signal = hs.signals.Signal2D(np.load(sys.argv[1]))
    for axis, name in zip(signal.axes_manager._axes, ("y", "x", "ky", "kx"), strict=True):
        axis.name = name
    signal.save(sys.argv[2])
