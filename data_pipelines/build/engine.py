"""Run one function over all shards: on local processes, or as an Apache Beam job.

Both run the same functions of one shard, which are safe to run twice; neither knows what they do.
"""

import multiprocessing
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed

from data_pipelines.build.shard_job import ShardTask

Work = Callable[[ShardTask], object]
# Calls a function once or more for every task and returns when all are done.
Engine = Callable[[Work, Sequence[ShardTask]], None]


def local_engine(processes: int) -> Engine:
    """Run on this machine; the first error stops the job, and what is done stays done.

    Raises (when run):
      BrokenProcessPool: a worker was killed; start the job again and it goes on.
    """

    def run(function: Work, tasks: Sequence[ShardTask]) -> None:
        if processes == 1:
            for task in tasks:
                function(task)
            return
        # Spawn, not fork: libraries that were loaded here have threads, which a fork loses.
        with ProcessPoolExecutor(processes, multiprocessing.get_context("spawn")) as pool:
            try:
                for future in as_completed([pool.submit(function, task) for task in tasks]):
                    future.result()
            except BaseException:
                pool.shutdown(wait=True, cancel_futures=True)
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

    def run(function: Work, tasks: Sequence[ShardTask]) -> None:
        with beam.Pipeline(options=PipelineOptions(list(options))) as pipeline:
            shards = pipeline | "shards" >> beam.Create(list(tasks), reshuffle=True)
            shards | function.__name__ >> beam.Map(lambda task: function(task) and None)

    return run
