"""Between a running pipeline and a checkpoint: copying out, putting back, and rolling back."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from spiked.service.configfile import learner_digest
from spiked.service.pipeline import Pipeline


class KnowledgeError(ValueError):
    """A checkpoint that does not fit the configuration."""


def capture(pipeline: Pipeline) -> tuple[dict[str, NDArray], dict[str, Any]]:
    """Copy everything that the future of all streams depends on."""
    arrays: dict[str, NDArray] = {}
    streams: dict[str, Any] = {}
    for name, stream in pipeline.streams.items():
        arrays |= {f"{name}/{key}": array for key, array in stream.arrays().items()}
        streams[name] = stream.record() | {"digest": learner_digest(stream.config)}
    return arrays, {"streams": streams}


def restore(pipeline: Pipeline, arrays: dict[str, NDArray], record: dict[str, Any]) -> None:
    """Continue every stream from a checkpoint, bit for bit; streams that it does not know start afresh.

    Raises
    ------
    KnowledgeError
        If a stream's network is not the one that the checkpoint holds: what was learnt would be lost without a word.
    """
    for name, stream in pipeline.streams.items():
        mine = record["streams"].get(name)
        if mine is not None:
            _check(name, stream.config, mine)
            stream.load(_of(name, arrays), mine)


def roll_back(pipeline: Pipeline, name: str, arrays: dict[str, NDArray], record: dict[str, Any]) -> None:
    """Give one stream the knowledge of a checkpoint; it stays where it is in its stream, at rest."""
    mine = record["streams"].get(name)
    if mine is None:
        raise KnowledgeError(f"the checkpoint holds no stream {name!r}; it has {', '.join(record['streams'])}")
    stream = pipeline.streams[name]
    _check(name, stream.config, mine)
    stream.roll_back(_of(name, arrays), mine)


def _check(name: str, config: Any, mine: dict[str, Any]) -> None:
    if mine["digest"] != learner_digest(config):
        raise KnowledgeError(
            f"stream {name!r}: the checkpoint holds another network than the configuration; change the network back, "
            "or start with another daemon.state_dir"
        )


def _of(name: str, arrays: dict[str, NDArray]) -> dict[str, NDArray]:
    return {key[len(name) + 1 :]: array for key, array in arrays.items() if key.startswith(f"{name}/")}
