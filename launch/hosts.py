"""Makes this process one of a job over several.

Cloud TPU, Slurm, Open MPI and Kubernetes with jax's extra tell JAX everything; elsewhere three
variables do:

    JAX_COORDINATOR_ADDRESS=host0:1234 JAX_NUM_PROCESSES=2 JAX_PROCESS_ID=0
"""

import os

import jax

VARIABLES = ("JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID")


def _missing(error: KeyError | ValueError) -> str:
    return f"{error} is not set" if isinstance(error, KeyError) else str(error).rstrip(".")


def join() -> None:
    """Meet the job's other processes; to be called before anything asks JAX for its devices.

    Raises:
      ValueError: some of the three variables are set and others not, or are no such numbers.
    """
    # JAX's own handler would swallow SIGTERM and tell nobody; see qwenvl_jax/train/stop.py.
    jax.config.update("jax_enable_preemption_service", False)
    given = {name: os.environ[name] for name in VARIABLES if os.environ.get(name)}
    if not given:
        try:
            jax.distributed.initialize()
        except (KeyError, ValueError) as error:
            raise ValueError(
                "--multihost: no cluster tells this process of the others"
                f" ({_missing(error)}); set {', '.join(VARIABLES)}"
            ) from error
        return
    if missing := [name for name in VARIABLES if name not in given]:
        raise ValueError(f"--multihost: {', '.join(given)} set, but not {', '.join(missing)}")
    address, *numbers = given.values()
    try:
        count, number = map(int, numbers)
    except ValueError:
        raise ValueError(f"--multihost: {given}: count and number must be integers") from None
    if not 0 <= number < count:
        raise ValueError(f"--multihost: JAX_PROCESS_ID={number} is not below {count} processes")
    jax.distributed.initialize(address, num_processes=count, process_id=number)
