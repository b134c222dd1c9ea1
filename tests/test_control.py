"""Whatever is asked of the control socket, there is one answer, and the daemon is as it was."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import zmq
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from live import free_ports

from spiked.io.sink import Sink
from spiked.service.checkpoint_writer import CheckpointWriter
from spiked.service.checkpoints import CheckpointStore
from spiked.service.configfile import parse_config
from spiked.service.control import Control
from spiked.service.metrics import DaemonStats
from spiked.service.pipeline import Pipeline

VERBS = ("status", "rollback", "freeze", "unfreeze", "set", "reset", "teach", "checkpoint", "stop")
KEYS = ("do", "stream", "name", "rate", "learning", "class", "ms", "more")


class Served:
    """What requests act on, without a process around it."""

    def __init__(self, folder: Path, context: zmq.Context[Any]) -> None:
        config = {
            "network": {"layers": [{"neurons": 4}], "classes": ["a"]},
            "stream": [{"id": "cam0", "width": 4, "height": 4}],
        }
        self.pipeline, self.stats = Pipeline(parse_config(config)), DaemonStats()
        self.store = CheckpointStore(folder)
        self.writer = CheckpointWriter(self.store)
        self.sink = Sink(context, f"tcp://127.0.0.1:{free_ports(1)[0]}", 10)
        self.ready, self.stopping = True, ""

    def checkpoint(self) -> None:
        pass

    def publish(self, predictions: list[Any]) -> None:
        pass


@pytest.fixture(scope="module")
def control(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Control]:
    context: zmq.Context[Any] = zmq.Context()
    served = Served(tmp_path_factory.mktemp("control"), context)
    made = Control(context, f"tcp://127.0.0.1:{free_ports(1)[0]}", served)
    yield made
    made.close()
    served.writer.close()
    served.sink.close()
    context.term()


NASTY = (
    b"", b"{", b"[]", b"null", b"1", b'"do"', b'{"do":"\xff"}', b'{"\xd0\x01":1}', b'{"a":' + b"[" * 60_000,
    b'{"do":["status"]}', b'{"do":{}}', b'{"do":"status","stream":[]}', b'{"do":"status","stream":{"a":1}}',
    b'{"do":"set","rate":1e999}', b'{"do":"set","rate":1' + b"0" * 400 + b"}", b'{"do":"set","rate":NaN}',
    b'{"do":"set","rate":-1}', b'{"do":"set","rate":true}', b'{"do":"set","learning":1}', b'{"do":"set"}',
    b'{"do":"teach","class":"\\ud800"}', b'{"do":"teach","class":[]}', b'{"do":"teach","class":0,"ms":1e300}',
    b'{"do":"rollback","name":["x"]}', b'{"do":"rollback","name":"../../etc/passwd"}', b'{"do":"rollback","name":5}',
)  # fmt: skip


@pytest.mark.parametrize("raw", NASTY)
def test_nasty_requests_are_errors_in_one_line(control: Control, raw: bytes, caplog: pytest.LogCaptureFixture) -> None:
    answer = control._answer([raw])
    assert answer is not None and answer["ok"] is False and "\n" not in answer["error"]
    assert not caplog.records, "none of these is a fault of the daemon"
    json.dumps(answer)


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from((*VERBS, "cam0", "a")),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=5,
)
REQUESTS = st.dictionaries(st.sampled_from(KEYS), VALUES, max_size=4).map(lambda r: json.dumps(r).encode())
ASKED = st.builds(
    lambda request, verb: json.dumps({**request, "do": verb}).encode(),
    st.dictionaries(st.sampled_from(KEYS[1:]), VALUES, max_size=4),
    st.sampled_from(VERBS[:-2]),
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=300)
@given(raw=REQUESTS | ASKED | st.binary(max_size=64))
def test_whatever_is_asked_is_answered(control: Control, raw: bytes, caplog: pytest.LogCaptureFixture) -> None:
    answer = control._answer([raw])
    if b'"checkpoint"' in raw and answer is None:
        control._waiting = None
        return
    assert answer is not None and isinstance(answer["ok"], bool)
    assert answer["ok"] or "\n" not in answer["error"]
    assert not [r for r in caplog.records if r.levelname == "ERROR"]
    control.daemon.stopping = ""
