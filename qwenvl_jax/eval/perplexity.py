"""Perplexity per source and language from sums of losses."""

import math
from collections.abc import Mapping


def perplexity(losses: Mapping[str, float]) -> dict[str, float]:
    """exp of each mean loss in nats a token; `loss/en` becomes `perplexity/en`."""
    return {
        name.replace("loss", "perplexity", 1): math.exp(loss) if loss < 700 else math.inf
        for name, loss in losses.items()
    }
