"""Writes frames (numpy's file) with py4DSTEM; runs in py4DSTEM's environment."""

import sys
from contextlib import redirect_stdout

import numpy as np

if __name__ == "__main__":
    with redirect_stdout(sys.stderr):
        import py4DSTEM

        py4DSTEM.save(sys.argv[2], py4DSTEM.DataCube(np.load(sys.argv[1])))
