"""Whatever a configuration file says, it is taken, or refused in one line that names a place."""

from __future__ import annotations

import copy
import tomllib
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spiked.service.configfile import ConfigError, load_config, parse_config
from spiked.service.pipeline import Pipeline

CONFIGS = sorted((Path(__file__).resolve().parent.parent / "configs").glob("*.toml"))
SCALARS = (
    st.none() | st.booleans() | st.integers(-3, 10) | st.integers() | st.floats() | st.text(max_size=6)
    | st.sampled_from(("eprop", "rtrl", "stdp", "none", "gradient", "tcp://0.0.0.0:1", "cam0", "unknown", "../x"))
)  # fmt: skip
VALUES = st.recursive(SCALARS, lambda v: st.lists(v, max_size=3) | st.dictionaries(st.text(max_size=5), v, max_size=2))


def places(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Where something stands in a table: keys and numbers on the way to it."""
    inside: Any = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [*([at] if at else []), *(p for key, v in inside for p in places(v, (*at, key)))]


@given(data=st.data())
def test_mutated_configurations_are_refused_in_one_line_or_can_be_used(data: st.DataObject) -> None:
    raw = tomllib.loads(data.draw(st.sampled_from(CONFIGS)).read_text())
    raw = copy.deepcopy(raw)
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.sampled_from(places(raw)))
        table = raw
        for key in place[:-1]:
            table = table[key]
        if data.draw(st.booleans()):
            table[place[-1]] = data.draw(VALUES)
        elif isinstance(table, dict):
            del table[place[-1]]
            table[data.draw(st.text(max_size=6))] = data.draw(VALUES)
        if not places(raw):
            break
    try:
        config = parse_config(raw)
    except ConfigError as error:
        assert str(error).strip() and "\n" not in str(error)
        return
    again = parse_config(msgspec.to_builtins(config))
    assert again == config
    if max(s.width * s.height * layer.neurons for s in config.stream for layer in s.network.layers) < 1e6:
        Pipeline(config)


@pytest.mark.parametrize(
    "text", (b"\xff\xfe", b"[", b"a = 1", b"stream = 1", b"[[stream]]\nid = 1979-05-27", b"\0" * 99)
)
def test_files_that_are_no_configuration(tmp_path: Path, text: bytes) -> None:
    (tmp_path / "x.toml").write_bytes(text)
    with pytest.raises(ConfigError) as refused:
        load_config(tmp_path / "x.toml")
    assert "\n" not in str(refused.value) and "x.toml" in str(refused.value)
