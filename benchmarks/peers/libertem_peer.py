"""LiberTEM, timed in its own environment: the same array, masks and quantities as the accumulator's bench.

One JSON line in, one out. ``open`` maps the array, ``time`` runs everything once, ``save`` keeps the last results.
"""

import json
import os
import sys
import time
from functools import partial

import hdf5plugin
import numpy as np
from libertem.api import Context
from libertem.udf import UDF
from libertem.udf.masks import ApplyMasksUDF
from libertem.udf.sum import SumUDF

CPUS = 2


class MaxUDF(UDF):
    """Largest value of each pixel over all frames, which LiberTEM does not ship; written as its manual shows."""

    def get_preferred_input_dtype(self):
        return self.USE_NATIVE_DTYPE

    def get_result_buffers(self):
        return {"maximum": self.buffer(kind="sig", dtype=self.meta.input_dtype)}

    def process_tile(self, tile):
        self.results.maximum[:] = np.maximum(self.results.maximum, tile.max(axis=0))

    def merge(self, dest, src):
        dest.maximum[:] = np.maximum(dest.maximum, src.maximum)


class Runner:
    """The open array, and a context with its dataset for each executor asked for."""

    hdf5 = None

    def open(self, *, path, scan_shape, detector_shape, masks):
        self.raw = {"path": path, "nav_shape": scan_shape, "sig_shape": detector_shape, "dtype": "uint16"}
        self.data = np.memmap(path, np.uint16, "r", shape=(*scan_shape, *detector_shape))
        self.masks = masks
        self.contexts = {}
        return {}

    def open_hdf5(self, *, path, dataset, masks):
        os.environ["HDF5_PLUGIN_PATH"] = hdf5plugin.PLUGIN_PATH  # for the workers that are to come
        self.hdf5 = {"path": path, "ds_path": dataset}
        self.masks = masks
        self.contexts = {}
        return {}

    def time(self, *, executor, case):
        context, dataset = self._context(executor)
        # Loaded where they are used: LiberTEM warns of masks that travel with each task.
        masks = partial(np.load, self.masks[case])
        # Centre of mass is three more masks of the same product: faster than CoMUDF beside ApplyMasksUDF.
        udfs = [
            ApplyMasksUDF(masks, mask_count=len(masks()), mask_dtype=np.float32, use_sparse=False),
            SumUDF(),
            MaxUDF(),
        ]
        begun = time.perf_counter()
        sums, total, largest = context.run_udf(dataset=dataset, udf=udfs, progress=False)
        seconds = time.perf_counter() - begun
        self.last = {
            "sums": sums["intensity"].raw_data,
            "sum_pattern": total["intensity"].raw_data,
            "max_pattern": largest["maximum"].raw_data,
        }
        return {"seconds": seconds}

    def save(self, *, to):
        np.savez(to, **self.last)
        return {}

    def _context(self, executor):
        if executor not in self.contexts:
            context = Context.make_with(executor, cpus=CPUS)
            # Only threads can use this process's mapping; the worker processes of the others map the file themselves.
            if self.hdf5:
                dataset = context.load("hdf5", **self.hdf5)
            elif executor == "threads":
                dataset = context.load("memory", data=self.data, sig_dims=2)
            else:
                dataset = context.load("raw", **self.raw)
            self.contexts[executor] = context, dataset
        return self.contexts[executor]


if __name__ == "__main__":
    runner = Runner()
    for line in sys.stdin:
        question = json.loads(line)
        print(json.dumps(getattr(runner, question.pop("do"))(**question)), flush=True)
    for context, _ in runner.contexts.values():
        context.close()
