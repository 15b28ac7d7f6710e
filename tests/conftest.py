"""Eight CPU devices for the sharding tests, and parsed flags for Grain's worker processes."""

import os

os.environ["JAX_PLATFORMS"] = "cpu"
# Each test compiles programs that it runs once: LLVM's optimisations took half of the suite's time.
os.environ["XLA_FLAGS"] = (
    "--xla_force_host_platform_device_count=8 --xla_backend_optimization_level=0"
)

from absl import flags
from hypothesis import settings

flags.FLAGS.mark_as_parsed()

# The same examples everywhere, and no clock: a loaded machine must not fail a test.
settings.register_profile("steady", deadline=None, derandomize=True)
settings.load_profile("steady")
