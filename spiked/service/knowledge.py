"""Between a running pipeline and a checkpoint: copying out, putting back, and rolling back."""

from __future__ import annotations

from typing import Any, NamedTuple

from numpy.typing import NDArray

from spiked.io.binner import Binner
from spiked.service.build import AnyLearner, build_learner
from spiked.service.configfile import learner_digest
from spiked.service.pipeline import Pipeline, Stream


class KnowledgeError(ValueError):
    """A checkpoint that does not fit the configuration."""


class Absent(NamedTuple):
    """What a checkpoint holds of streams that are not configured now: it goes on into the next ones untouched."""

    arrays: dict[str, NDArray]
    streams: dict[str, Any]


def absent_streams(pipeline: Pipeline, arrays: dict[str, NDArray], record: dict[str, Any]) -> Absent:
    """Pick out what belongs to streams that the pipeline does not have."""
    streams = {name: mine for name, mine in record["streams"].items() if name not in pipeline.streams}
    return Absent({key: array for key, array in arrays.items() if key.split("/")[0] in streams}, streams)


def capture(pipeline: Pipeline, absent: Absent | None = None) -> tuple[dict[str, NDArray], dict[str, Any]]:
    """Copy everything that the future of all streams depends on, and put what is `absent` beside it."""
    arrays: dict[str, NDArray] = dict(absent.arrays) if absent else {}
    streams: dict[str, Any] = dict(absent.streams) if absent else {}
    for name, stream in pipeline.streams.items():
        arrays |= {f"{name}/{key}": array for key, array in stream_arrays(stream).items()}
        streams[name] = stream_record(stream) | {"digest": learner_digest(stream.config)}
    return arrays, {"streams": streams, "good": all(s.care is None or s.care.good for s in pipeline.streams.values())}


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
            load_stream(stream, _of(name, arrays), mine)


def roll_back(pipeline: Pipeline, name: str, arrays: dict[str, NDArray], record: dict[str, Any]) -> None:
    """Give one stream the knowledge of a checkpoint; it stays where it is in its stream, at rest."""
    mine = record["streams"].get(name)
    if mine is None:
        raise KnowledgeError(f"the checkpoint holds no stream {name!r}; it has {', '.join(record['streams'])}")
    stream = pipeline.streams[name]
    _check(name, stream.config, mine)
    roll_back_stream(stream, _of(name, arrays), mine)


def stream_arrays(stream: Stream) -> dict[str, NDArray]:
    """Copies of all arrays that the future of a stream depends on."""
    parts = {"learner": stream.learner.state(), "binner": stream.binner.state(), "recall": stream.recall.state()}
    if stream.care:
        parts["care"] = stream.care.state()
    arrays = {f"{part}.{name}": array for part, state in parts.items() for name, array in state.items()}
    return arrays | {"values": stream.teaching.values.copy()}


def stream_record(stream: Stream) -> dict[str, Any]:
    """Everything else that the future of a stream depends on, as plain data."""
    return {
        "classes": list(stream.classes), "targets": stream.schedule.state(), **stream.position.state(),
        "last_final_us": stream.last_final_us, "last_close_us": stream.last_close_us, "learning": stream.learning,
        "rate": stream.learner.rate, "stats": stream.stats.state(),
        "care": stream.care.record() if stream.care else None,
    }  # fmt: skip


def load_stream(stream: Stream, arrays: dict[str, NDArray], record: dict[str, Any]) -> None:
    """Continue from what was copied, bit for bit; raises ValueError, and changes nothing, where it does not fit."""
    learner, classes = _learner(stream, arrays, record, stream.config.network.classes)
    binner = Binner(stream.binner.spec)
    binner.load_state(_part(arrays, "binner"))  # what does not fit has raised by now, and nothing has changed
    stream.learner, stream.binner = learner, binner
    stream.classes[:] = classes
    stream.recall.load_state(_part(arrays, "recall"))
    stream.teaching.vectors = list(arrays["values"])
    stream.schedule.load_state(record["targets"])
    stream.position.load_state(record)
    stream.last_final_us, stream.last_close_us = record["last_final_us"], record["last_close_us"]
    stream.learning, stream.learner.rate = record["learning"], record["rate"]
    stream.stats.load_state(record["stats"])
    if stream.care and record.get("care"):
        stream.care.load(_part(arrays, "care"), record["care"])


def roll_back_stream(stream: Stream, arrays: dict[str, NDArray], record: dict[str, Any]) -> None:
    """Take the knowledge of what was copied, and stay where the stream is, at rest.

    Classes that came since are known by name only, and nothing is known of them.
    """
    learner, classes = _learner(stream, arrays, record, stream.classes)
    learner.reset()
    learner.rate = stream.learner.rate
    stream.learner = learner
    stream.classes[:] = classes
    stream.schedule.clear()  # its labels are numbers of the classes before
    stream.recall.mark_reset()
    stream.norms.forget()
    if stream.care:
        stream.care.begin_anew()


def _learner(
    stream: Stream, arrays: dict[str, NDArray], record: dict[str, Any], classes: list[str]
) -> tuple[AnyLearner, list[str]]:
    """Build the learner of a checkpoint, with room for those of `classes` that it does not know."""
    known = list(record["classes"])
    learner = build_learner(stream.config, len(known))
    learner.load_state(_part(arrays, "learner"))
    known += [name for name in classes if name not in known]
    if len(known) > learner.n_out:
        learner.grow(len(known))
    return learner, known


def _part(arrays: dict[str, NDArray], name: str) -> dict[str, NDArray]:
    return {k[len(name) + 1 :]: v for k, v in arrays.items() if k.startswith(name + ".")}


def _check(name: str, config: Any, mine: dict[str, Any]) -> None:
    if mine["digest"] != learner_digest(config):
        raise KnowledgeError(
            f"stream {name!r}: the checkpoint holds another network than the configuration; change the network back, "
            "or start with another daemon.state_dir"
        )


def _of(name: str, arrays: dict[str, NDArray]) -> dict[str, NDArray]:
    return {key[len(name) + 1 :]: array for key, array in arrays.items() if key.startswith(f"{name}/")}
