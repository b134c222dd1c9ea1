"""Which methods against forgetting go with which learner: what is refused, and why."""

from __future__ import annotations

from spiked.service.config import ConfigError, Stream


def check_memory(place: str, stream: Stream) -> None:
    """Raise ConfigError for a method that has nothing to act on; `place` is that of ``[memory]``."""
    learning, methods = stream.learning, stream.memory.methods
    for k, method in enumerate(methods):
        where = f"{place}.methods[{k}]: {method!r}"
        if method in methods[:k]:
            raise ConfigError(f"{where} stands twice")
        by_windows = learning.rule == "eprop" or (learning.rule == "rtrl" and not stream.network.layers[0].recurrent)
        if not by_windows or learning.update != "window":
            raise ConfigError(
                f'{where} acts on weights that learn by windows: rule = "eprop", or "rtrl" without recurrence; '
                f'here rule = "{learning.rule}", update = "{learning.update}"'
            )
        if method == "average" and learning.objective == "reward":
            raise ConfigError(f'{where} predicts with other weights than those that objective = "reward" is about')
