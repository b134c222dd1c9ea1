"""Which methods against forgetting go with which learner: what is refused, and why."""

from __future__ import annotations

from spiked.service.config import ConfigError, Stream


def check_memory(place: str, stream: Stream) -> None:
    """Raise ConfigError for a method that has nothing to act on; `place` is that of ``[memory]``."""
    learning, network, memory = stream.learning, stream.network, stream.memory
    by_windows = learning.rule == "eprop" or (learning.rule == "rtrl" and not network.layers[0].recurrent)
    for k, method in enumerate(memory.methods):
        where = f"{place}.methods[{k}]: {method!r}"
        if method in memory.methods[:k]:
            raise ConfigError(f"{where} stands twice")
        if method in ("copies", "drift"):
            if learning.rule != "none":
                raise ConfigError(f'{where} is for a head on fixed features, rule = "none"; here "{learning.rule}"')
        elif not by_windows or learning.update != "window":
            raise ConfigError(
                f'{where} acts on weights that learn by windows: rule = "eprop", or "rtrl" without recurrence; '
                f'here rule = "{learning.rule}", update = "{learning.update}"'
            )
        if method in ("replay", "pseudo") and (network.outputs or learning.objective == "reward"):
            raise ConfigError(f"{where} shows windows again by their class; outputs and rewards have none")
        if method == "pseudo" and learning.objective == "membrane_mse":
            raise ConfigError(f'{where} makes windows up for classes; objective = "membrane_mse" is for vectors')
        if method == "average" and learning.objective == "reward":
            raise ConfigError(f'{where} predicts with other weights than those that objective = "reward" is about')
        if method == "novelty" and learning.objective == "reward":
            raise ConfigError(f"{where} follows surprise: a reward says how good it was, not what was right")
    if "copies" in memory.methods and not memory.copies_px and not memory.copies_drawn:
        raise ConfigError(f"{place}.copies_px: empty, and copies_drawn = 0: there is nothing to copy")
    for k, px in enumerate(memory.copies_px):
        if px >= max(stream.width, stream.height) / stream.downsample:
            raise ConfigError(f"{place}.copies_px[{k}]: {px} moves all events off the sensor")
        if px in memory.copies_px[:k]:
            raise ConfigError(f"{place}.copies_px[{k}]: {px} stands twice")
