"""What a command says while it works: our own lines, and of Orbax only what is wrong."""

import logging

from absl import logging as absl_logging


def start() -> None:
    """Show INFO lines, except Orbax's, which dumps its objects at every save."""
    absl_logging.set_verbosity(absl_logging.INFO)
    absl_logging.get_absl_handler().addFilter(
        lambda line: line.levelno > logging.INFO or "orbax" not in line.pathname
    )
