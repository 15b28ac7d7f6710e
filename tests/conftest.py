"""Eight CPU devices for the sharding tests, and parsed flags for Grain's worker processes."""

import os

os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=8"

from absl import flags

flags.FLAGS.mark_as_parsed()
