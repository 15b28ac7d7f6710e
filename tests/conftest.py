"""Eight CPU devices for the sharding tests, and parsed flags for Grain's worker processes."""

import os

from tests.xla import xla_flags

os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["XLA_FLAGS"] = xla_flags(devices=8)

from absl import flags
from hypothesis import settings

flags.FLAGS.mark_as_parsed()

# The same examples everywhere, and no clock: a loaded machine must not fail a test.
settings.register_profile("steady", deadline=None, derandomize=True)
settings.load_profile("steady")
