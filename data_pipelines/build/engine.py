"""Run one function over all shards: on local processes, or as an Apache Beam job.

Both run the same functions of one shard, which are safe to run twice; neither knows what they do.
"""

import multiprocessing
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from typing import Any

from data_pipelines.workers import start_builder

# A function of one task, be it a shard or a part of a decision; the task travels to a worker.
Work = Callable[[Any], object]
# Calls a function once or more for every task and returns when all are done.
Engine = Callable[[Work, Sequence[Any]], None]


def local_engine(processes: int) -> Engine:
    """Run on this machine; the first error stops the job, and what is done stays done.

    The processes start with the first work for more than one of them and end with the engine.

    Raises (when run):
      BrokenProcessPool: a worker was killed; start the job again and it goes on.
    """
    pool: ProcessPoolExecutor | None = None

    def run(function: Work, tasks: Sequence[Any]) -> None:
        nonlocal pool
        if processes == 1 or len(tasks) == 1:
            for task in tasks:
                function(task)
            return
        # Spawn, not fork: libraries that were loaded here have threads, which a fork loses.
        spawn = multiprocessing.get_context("spawn")
        pool = pool or ProcessPoolExecutor(processes, spawn, start_builder)
        try:
            for future in as_completed([pool.submit(function, task) for task in tasks]):
                future.result()
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            pool = None
            raise

    return run


def beam_engine(options: Sequence[str]) -> Engine:
    """Run on Beam, its local runner unless the options name another (`--runner=DataflowRunner`).

    The work and output folders must be visible to every worker under the same path.

    Raises:
      ImportError: Beam is not installed (`pip install 'qwenvl-jax[beam]'`).
    """
    import apache_beam as beam
    from apache_beam.options.pipeline_options import PipelineOptions

    def run(function: Work, tasks: Sequence[Any]) -> None:
        with beam.Pipeline(options=PipelineOptions(list(options))) as pipeline:
            shards = pipeline | "shards" >> beam.Create(list(tasks), reshuffle=True)
            shards | function.__name__ >> beam.Map(lambda task: function(task) and None)

    return run
