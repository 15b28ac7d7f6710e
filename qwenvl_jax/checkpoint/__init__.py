"""Weights on disk: checkpoints of work directories, and PyTorch directories in and out."""

from absl import logging

# Orbax ends every log with the representation of an internal object ("Closing NonBlocking...").
logging.get_absl_logger().addFilter(lambda record: record.msg != "Closing %s")
