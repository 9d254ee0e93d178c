"""LiberTEM-live, timed in its own environment: virtual images and centre of mass of a scan as its receiver takes it.

One JSON line in, one out. ``open`` starts the executors, ``time`` takes one scan, ``save`` keeps its results.
"""

import json
import signal
import sys
import time
from functools import partial
from threading import Thread

import numpy as np
from libertem.udf.masks import ApplyMasksUDF
from libertem_live.api import Hooks, LiveContext

CPUS = {"inline": None, "pipelined": 2}
"""Workers; inline has none."""
PATIENCE_S = 120
"""A receiver waits for ever for frames that do not come; this ends it."""


class Trigger(Hooks):
    """Starts the frames of an armed detector, which answers at their end, and knows when that was."""

    def on_ready_for_data(self, env):
        self.answer = Thread(target=env.aq.get_api_client().sendDetectorCommand, args=("trigger",))
        self.begun = time.perf_counter()
        self.answer.start()


class Runner:
    """A context for each executor, all of them for one detector."""

    def open(self, *, executors, rest_port, data_port, scan_shape, masks):
        self.place = {"api_host": "127.0.0.1", "api_port": rest_port, "data_host": "127.0.0.1", "data_port": data_port}
        self.scan_shape, self.masks = tuple(scan_shape), masks
        self.contexts = {name: LiveContext.make_with(name, cpus=CPUS[name]) for name in executors}
        return {}

    def time(self, *, executor):
        context, trigger = self.contexts[executor], Trigger()
        masks = partial(np.load, self.masks)
        # Centre of mass is three more masks of the same product: faster than CoMUDF beside ApplyMasksUDF.
        udf = ApplyMasksUDF(masks, mask_count=len(masks()), mask_dtype=np.float32, use_sparse=False)
        with context.make_connection("dectris").open(**self.place) as connection:
            controller = connection.get_active_controller(trigger_mode="ints", compression="bslz4")
            scan = context.make_acquisition(
                conn=connection, nav_shape=self.scan_shape, controller=controller, hooks=trigger
            )
            self.sums = context.run_udf(dataset=scan, udf=udf, progress=False)["intensity"].raw_data
            seconds = time.perf_counter() - trigger.begun
        trigger.answer.join()
        return {"seconds": seconds}

    def save(self, *, to):
        np.save(to, self.sums)
        return {}

    def close(self):
        for context in self.contexts.values():
            context.close()


if __name__ == "__main__":
    runner = Runner()
    for line in sys.stdin:
        question = json.loads(line)
        signal.alarm(PATIENCE_S)
        print(json.dumps(getattr(runner, question.pop("do"))(**question)), flush=True)
        signal.alarm(0)
    runner.close()
