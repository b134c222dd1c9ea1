"""The reference tables say what the program does: every key, metric, option, reason and field, both ways."""

from __future__ import annotations

import argparse
import re
import struct
from pathlib import Path
from typing import Any, get_args, get_origin

import msgspec
import pytest
from prometheus_client import CollectorRegistry

from spiked.io import wire
from spiked.io.binner import Binner
from spiked.io.events import Geometry
from spiked.io.gate import REASONS
from spiked.io.keys import ROLES
from spiked.io.recordings import FORMATS
from spiked.io.sender import Sender
from spiked.service import config, control
from spiked.service.cli import COMMANDS, build_parser
from spiked.service.cmd_ctl import VERBS
from spiked.service.configfile import parse_config
from spiked.service.metrics import DaemonStats, SpikedCollector
from spiked.service.pipeline import Pipeline

DOCS = Path(__file__).resolve().parent.parent / "docs"
Row = dict[str, str]


def sections(name: str) -> dict[str, str]:
    """Text of a page by heading (any level; backticks taken off)."""
    found: dict[str, str] = {}
    for part in re.split(r"^#{1,4} ", (DOCS / name).read_text(), flags=re.MULTILINE)[1:]:
        heading, _, body = part.partition("\n")
        assert heading not in found, f"{name}: two sections {heading!r}"
        found[heading.replace("`", "")] = body
    return found


def table(text: str) -> list[Row]:
    """The tables of a text as rows by column name."""
    rows: list[Row] = []
    header: list[str] = []
    for line in text.splitlines():
        if not line.startswith("|"):
            header = []
            continue
        cells = [c.strip() for c in re.split(r"(?<!\\)\|", line.strip()[1:-1])]
        if not header:
            header = [c.strip("`") for c in cells]
        elif not set("".join(cells)) <= set("-: "):
            assert len(cells) == len(header), f"{len(cells)} cells for {len(header)} columns: {line}"
            rows.append(dict(zip(header, cells)))
    return rows


def quoted(cell: str) -> list[str]:
    return re.findall(r"`([^`]*)`", cell)


def test_the_parser_of_tables_sees_what_is_there() -> None:
    assert table("x\n| a | b |\n|---|:-:|\n| `1` | two |\n\ny") == [{"a": "`1`", "b": "two"}]
    assert table("| a |\n|---|\n| 1 |\n\n| c |\n|---|\n| 2 |") == [{"a": "1"}, {"c": "2"}]


# configuration

SECTIONS = {
    "[daemon]": config.Daemon, "[ingest]": config.Ingest, "[predictions]": config.Predictions,
    "[control]": config.Control, "[metrics]": config.Metrics, "[security]": config.Security,
    "[checkpoint]": config.Checkpoint, "[[stream]]": config.Stream, "[network]": config.Network,
    "network.layers": config.Layer, "network.layers.adaptive": config.Adaptive, "[learning]": config.Learning,
    "learning.regularisers": config.Regularisers, "learning.stdp": config.Stdp, "[memory]": config.Memory,
}  # fmt: skip


def test_every_table_of_the_configuration_has_its_section() -> None:
    tables = {f"[{f.name}]" if f.name != "stream" else "[[stream]]" for f in msgspec.structs.fields(config.Config)}
    assert {h for h in SECTIONS if h.startswith("[")} == tables
    documented = {h for h in sections("configuration.md") if h.startswith(("[", "network.", "learning."))}
    assert documented == set(SECTIONS)


def default_of(field: Any) -> str:
    """A default as the page writes it."""
    if field.name == "state_dir":
        return "computed"
    if field.required:
        return "required"
    value = field.default if field.default is not msgspec.NODEFAULT else field.default_factory()
    if value is None:
        return "none"
    if isinstance(value, msgspec.Struct):
        return "below"
    if field.name == "layers" and isinstance(value[0], config.Layer):
        (layer,) = value
        assert layer == config.Layer()
        return f"`[{{ neurons = {layer.neurons} }}]`"
    return f"`{msgspec.json.encode(value).decode().replace(',', ', ')}`"


@pytest.mark.parametrize("heading", SECTIONS)
def test_every_key_stands_there_with_its_default(heading: str) -> None:
    rows = {quoted(r["key"])[0]: r for r in table(sections("configuration.md")[heading])}
    fields = {
        f.name: f
        for f in msgspec.structs.fields(SECTIONS[heading])
        if not (heading == "[[stream]]" and f.name in ("network", "learning", "memory"))
    }
    assert list(rows) == list(fields), "the page names other keys, or in another order"
    for name, field in fields.items():
        assert rows[name]["default"] == default_of(field), name
        choices = get_args(field.type) if get_origin(field.type) is not None else ()
        for choice in (c for c in choices if isinstance(c, str) and c):
            assert choice in quoted(rows[name]["allowed"]), f"{name}: {choice} is allowed, but not named"


def test_every_method_against_forgetting_has_a_row() -> None:
    rows = table(sections("continual.md")["What works against forgetting"])
    field = next(f for f in msgspec.structs.fields(config.Memory) if f.name == "methods")
    (choice,) = get_args(field.type)
    assert sorted(name for r in rows for name in quoted(r["method"])) == sorted(get_args(choice))


# metrics


def test_every_metric_stands_there_and_no_other() -> None:
    pipeline = Pipeline(parse_config({"stream": [{"id": "a", "width": 4, "height": 4}], "network": {"classes": ["x"]}}))
    registry = CollectorRegistry()
    registry.register(SpikedCollector(pipeline, DaemonStats()))
    shown = {
        family.name + ("_total" if family.type == "counter" else ""): (family.type, tuple(family._labelnames))
        for family in registry.collect()
    }
    rows = [r for text in sections("metrics.md").values() for r in table(text) if "name" in r]
    documented = {quoted(r["name"])[0]: (r["type"], tuple(quoted(r["labels"]))) for r in rows}
    assert len(rows) == len(documented)
    assert documented == shown


def test_reasons_of_refused_connections_stand_there() -> None:
    (row,) = (r for r in table(sections("metrics.md")["Of the daemon"]) if "connections_refused" in r.get("name", ""))
    assert tuple(quoted(row["meaning"])) == REASONS
    assert [quoted(r["reason"])[0] for r in table(sections("security.md")["Refused connections"])] == list(REASONS)
    assert set(quoted(row["labels"])) == {"socket", "reason"}


def test_every_role_stands_there() -> None:
    assert [quoted(r["role"])[0] for r in table(sections("security.md")["Roles"])] == list(ROLES)


def test_reasons_of_dropped_events_stand_there() -> None:
    row = next(r for r in table(sections("metrics.md")["Per stream"]) if "events_dropped" in r["name"])
    assert tuple(quoted(row["meaning"])) == (*Binner.REASONS, "shed")


# commands

PARSERS = next(a for a in build_parser()._actions if isinstance(a, argparse._SubParsersAction)).choices


def test_every_command_has_its_section() -> None:
    documented = [h.split()[1] for h in sections("commands.md") if h.startswith("spiked ")]
    assert documented == list(COMMANDS) == list(PARSERS)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_option_stands_there_and_no_other(command: str) -> None:
    heading, text = next((h, t) for h, t in sections("commands.md").items() if h.split()[:2] == ["spiked", command])
    actions = [a for a in PARSERS[command]._actions if a.dest != "help"]
    options = {o for a in actions for o in a.option_strings}
    rows = table(text)
    documented = [o.split()[0] for r in rows for o in quoted(r["option"])]
    assert sorted(documented) == sorted(options)
    for action in actions:
        if not action.option_strings:
            continue
        row = next(r for r in rows if action.option_strings[0] in r["option"])
        assert (row["default"] == "required") == action.required, row
        if isinstance(action.default, (int, float)) and not isinstance(action.default, bool) and action.dest != "port":
            assert row["default"] == f"{action.default:g}", row
        for choice in action.choices or ():
            assert f"`{choice}`" in row["meaning"], row
    assert f"spiked {command}" in text.partition("```sh")[2], "an example"
    if command == "ctl":
        assert all(f"`{verb}`" in text for verb in VERBS)
    for action in actions:
        if not action.option_strings and action.dest != "do":
            assert str(action.metavar).split("|")[0] in heading


def test_examples_of_the_help_texts_parse() -> None:
    for command, parser in PARSERS.items():
        lines = [ln.strip() for ln in (parser.epilog or "").splitlines() if ln.strip().startswith("spiked ")]
        assert lines, f"{command} --help shows no example"
        for line in lines:
            words = re.split(r" {2,}|\|", line)[0].split()  # what stands apart is a remark
            assert build_parser().parse_args(words[1:]).command == command


def test_examples_of_the_page_parse() -> None:
    lines = re.findall(r"^spiked .*$", (DOCS / "commands.md").read_text(), re.MULTILINE)
    assert {build_parser().parse_args(line.split()[1:]).command for line in lines} == set(COMMANDS)


def test_formats_of_recordings_stand_there() -> None:
    names = {
        "evt2": "EVT2", "evt3": "EVT3", "dat": "DAT", "aedat1": "AEDAT 1.0", "aedat2": "2.0", "aedat3": "3.1",
        "aedat4": "AEDAT4", "nmnist": "N-MNIST", "aer": "AER", "es": "Event Stream", "csv": "CSV",
    }  # fmt: skip
    assert set(names) == set(FORMATS)
    text = sections("commands.md")["spiked replay FILE..."]
    assert all(name in text for name in names.values())


# the wire

LETTERS = {"4s": "4s", "u8": "B", "u16": "H", "u32": "I", "u64": "Q"}


def test_the_header_table_is_the_struct() -> None:
    rows = table(sections("wire.md")["Messages in"])
    assert [quoted(r["field"])[0] for r in rows] == list(wire.Header._fields)
    form = "<" + "".join(LETTERS[r["type"]] for r in rows)
    assert form == wire.HEADER.format and struct.calcsize(form) == 64
    assert f"`{form}`" in sections("wire.md")["Messages in"]
    offsets = [struct.calcsize("<" + "".join(LETTERS[r["type"]] for r in rows[:k])) for k in range(len(rows))]
    assert [int(r["offset"]) for r in rows] == offsets


@pytest.mark.parametrize(
    ("heading", "kind"),
    [("Kinds", wire.Kind), ("Codecs of events", wire.EventCodec), ("Codecs of targets", wire.TargetCodec)],
)
def test_kinds_and_codecs(heading: str, kind: type[wire.Kind]) -> None:
    rows = table(sections("wire.md")[heading])
    number = "kind" if heading == "Kinds" else "codec"
    assert {r["name"]: int(r[number]) for r in rows} == {k.name.lower(): int(k) for k in kind}


def test_every_reason_stands_there_and_no_other() -> None:
    assert [quoted(r["reason"])[0] for r in table(sections("wire.md")["What is refused"])] == list(wire.REASONS)


def test_every_key_of_a_prediction_stands_there() -> None:
    pipeline = Pipeline(parse_config({"stream": [{"id": "a", "width": 4, "height": 4}], "network": {"classes": ["x"]}}))
    sender = Sender("a", Geometry(4, 4, 2), epoch=1)
    said = [p for f in (sender.reset(0), sender.reset(5000)) for p in pipeline.handle(f)]
    keys = list(msgspec.json.decode(said[-1].to_json(0.0)))
    assert [quoted(r["key"])[0] for r in table(sections("wire.md")["Predictions"])] == keys


def test_every_request_stands_there() -> None:
    rows = table(sections("wire.md")["Control"])
    assert [quoted(r["do"])[0] for r in rows] == list(VERBS)
    source = Path(control.__file__).read_text()
    for row in rows:
        verb, keys = quoted(row["do"])[0], quoted(row["keys"])
        for key in keys:
            assert f'"{key}"' in source, f"{verb}: {key}"


def test_each_promise_names_a_test_that_exists() -> None:
    named = re.findall(r"`tests/(test_\w+\.py)::(test_\w+)`", (DOCS / "reliability.md").read_text())
    assert len(named) > 30
    for file, test in named:
        assert f"def {test}(" in (DOCS.parent / "tests" / file).read_text(), f"{file}::{test}"
