"""Prometheus scrapes a learning daemon: every rule and every panel of every dashboard has data to show."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from live import CAM0, Live, wait_for
from watched import DEPLOY, Prometheus, Sensor, bool_of, dashboards, queries, rules

from spiked.io.events import Geometry
from spiked.io.sim_cochlea import cochlea_samples
from spiked.io.sim_dvs import dvs_samples

ROOT = DEPLOY.parent
CONFIG = """
[checkpoint]
every_s = 1

[memory]
exam_every = 1

[[stream]]
id = "camera"
width = 34
height = 34
network.layers = [{ neurons = 64 }]

[[stream]]
id = "cochlea"
width = 64
height = 1
network.layers = [{ neurons = 64 }]
"""
ALERTS = {rule["alert"]: rule for rule in rules() if "alert" in rule}
needs_promtool = pytest.mark.skipif(not shutil.which("promtool"), reason="promtool is not there (Debian: prometheus)")


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """A daemon that learns from two sensors, and a Prometheus that scrapes it."""
    if not shutil.which("prometheus"):
        pytest.skip("prometheus is not there (Debian: prometheus)")
    folder = tmp_path_factory.mktemp("watched")
    with Live(folder / "d", CONFIG) as live, Prometheus(folder / "p", live.http.removeprefix("http://")) as prometheus:
        sensors = [
            Sensor(live, "camera", CAM0, dvs_samples(0), 10),
            Sensor(live, "cochlea", Geometry(64, 1, 2), cochlea_samples(0), 10),
        ]
        for sensor in sensors:
            sensor.start()
        data(prometheus, "spiked_messages_rejected_total")  # an increase begins from what was there before
        with live.push() as stray:
            stray.send_multipart([b"camera/", b"no header", b""])
        wait_for(lambda: live.metric("spiked_checkpoints_total", result="ok") > 1, "checkpoints are written")
        yield prometheus
        for sensor in sensors:
            sensor.stop()
        assert live.stop() == 0


def data(prometheus: Prometheus, expr: str) -> list[dict[str, Any]]:
    """Series of an expression; the first scrapes may still be to come, and a rate needs two of them."""
    return list(wait_for(lambda: prometheus.query(expr), f"{expr} has data", 20))


@pytest.mark.parametrize("name", dashboards())
def test_every_panel_has_data(watched: Prometheus, name: str) -> None:
    for title, expr in queries(dashboards()[name]):
        series = data(watched, expr)
        streams = {s["metric"]["stream"] for s in series if "stream" in s["metric"]}
        assert not streams or {"camera", "cochlea"} <= streams, f"{title}: {streams}"


@pytest.mark.parametrize("name", dashboards())
def test_every_variable_has_values(watched: Prometheus, name: str) -> None:
    for variable in dashboards()[name]["templating"]["list"]:
        if variable["type"] == "query":
            asked = re.fullmatch(r"label_values\((.+), (\w+)\)", variable["query"]["query"])
            assert asked is not None and asked[2] == variable["name"]
            series = data(watched, asked[1].replace("$instance", ".*"))
            assert {s["metric"][asked[2]] for s in series} >= (
                {"camera", "cochlea"} if asked[2] == "stream" else {watched.target}
            )


def test_every_rule_has_data_and_is_evaluated(watched: Prometheus) -> None:
    for rule in rules():
        data(watched, rule.get("record") or bool_of(rule["expr"]))
    known = {r["name"]: r for group in watched.api("rules")["groups"] for r in group["rules"]}
    assert len(known) == len(rules())
    assert {r["health"] for r in known.values()} == {"ok"}, [r for r in known.values() if r["health"] != "ok"]
    data(watched, 'stream:spiked_messages_rejected:increase5m{stream="camera"} > 0')
    data(watched, "ALERTS")
    worries = {a["labels"]["alertname"] for a in watched.api("alerts")["alerts"]}
    slow = {"SpikedLag", "SpikedBusy"}  # a machine that has other things to do
    assert worries - slow == {"SpikedInputRejected"}, "the one message that was refused, and nothing else"


def test_it_learns(watched: Prometheus) -> None:
    """What is drawn is what a daemon does: more is right than by chance."""
    for stream in ("camera", "cochlea"):
        series = f'spiked_accuracy{{stream="{stream}"}}'
        wait_for(lambda: float(data(watched, series)[0]["value"][1]) > 0.4, f"{stream} is right more often")  # noqa: B023


def test_every_metric_is_on_a_dashboard_or_in_a_rule() -> None:
    page = (ROOT / "docs" / "metrics.md").read_text()
    names = set(re.findall(r"^\| `(spiked_\w+)` \|", page, re.MULTILINE))
    exprs = [e for board in dashboards().values() for _, e in queries(board)] + [rule["expr"] for rule in rules()]
    used = set(re.findall(r"(?<![\w:])spiked_\w+(?![\w:])", " ".join(exprs)))
    used |= {re.sub("_(bucket|sum)$", "", name) for name in used}
    # that one is the mean since whoever scraped last; the rate of its counter is what it should be
    assert len(names) > 30 and names - used == {"spiked_firing_rate_hz"}
    assert {n for n in used if n not in names} == {n for n in used if re.search("_(bucket|sum)$", n)}


@needs_promtool
def test_the_rules_do_what_they_are_meant_to() -> None:
    for folder, command in (("tests", ["test", "rules", "alerts.yml"]), (".", ["check", "config", "prometheus.yml"])):
        done = subprocess.run(
            ["promtool", *command], cwd=DEPLOY / "prometheus" / folder, capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_is_tested_and_explained() -> None:
    """Each where it fires and where it does not; each has a section of its own on the page that it links to."""
    tests = yaml.safe_load((DEPLOY / "prometheus" / "tests" / "alerts.yml").read_text())["tests"]
    fires = {t["alertname"] for test in tests for t in test.get("alert_rule_test", []) if t["exp_alerts"]}
    quiet = {t["alertname"] for test in tests for t in test.get("alert_rule_test", []) if not t["exp_alerts"]}
    assert fires == quiet == set(ALERTS)
    headings = re.findall(r"^#+ (\w+)$", (ROOT / "docs" / "alerts.md").read_text(), re.MULTILINE)
    assert [h for h in headings if h.startswith("Spiked")] == list(ALERTS)
    for name, rule in ALERTS.items():
        assert rule["labels"]["severity"] in ("critical", "warning", "info")
        assert set(rule["annotations"]) == {"summary", "description", "runbook_url"}
        assert rule["annotations"]["runbook_url"] == f"docs/alerts.md#{name.lower()}"


def test_the_dashboards_are_those_that_the_code_makes(tmp_path: Path) -> None:
    pytest.importorskip("grafana_foundation_sdk")
    done = subprocess.run(
        [sys.executable, str(DEPLOY / "grafana" / "generate.py"), str(tmp_path)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    made = {path.name: path.read_text() for path in tmp_path.iterdir()}
    kept = {path.name: path.read_text() for path in (DEPLOY / "grafana" / "dashboards").iterdir()}
    assert made == kept


@pytest.mark.parametrize("name", dashboards())
def test_a_dashboard_is_one_that_grafana_takes(name: str) -> None:
    """It comes through the typed model unchanged, nothing lies over another, and no link leads nowhere."""
    sdk = pytest.importorskip("grafana_foundation_sdk.models.dashboard")
    from grafana_foundation_sdk.cog import plugins
    from grafana_foundation_sdk.cog.encoder import JSONEncoder

    plugins.register_default_plugins()
    board = dashboards()[name]
    assert yaml.safe_load(JSONEncoder().encode(sdk.Dashboard.from_json(board))) == board
    panels = board["panels"]
    assert len({p["id"] for p in panels}) == len(panels) and all(p["title"] for p in panels)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        g = panel["gridPos"]
        cells = {(x, y) for x in range(g["x"], g["x"] + g["w"]) for y in range(g["y"], g["y"] + g["h"])}
        assert not cells & taken and g["x"] + g["w"] <= 24, panel["title"]
        taken |= cells
        assert panel["type"] == "row" or (panel["targets"] and panel["description"].endswith("."))
    assert [v["name"] for v in board["templating"]["list"]][:2] == ["datasource", "instance"]


def test_provisioning_leads_to_what_is_there() -> None:
    folder = DEPLOY / "grafana" / "provisioning"
    (source,) = yaml.safe_load((folder / "datasources" / "prometheus.yml").read_text())["datasources"]
    assert source["type"] == "prometheus" and source["isDefault"]
    every = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text())["global"]["scrape_interval"]
    assert source["jsonData"]["timeInterval"] == every, "$__rate_interval follows from it"
    (provider,) = yaml.safe_load((folder / "dashboards" / "spiked.yml").read_text())["providers"]
    compose = (DEPLOY / "docker" / "compose.yaml").read_text()
    assert f"../grafana/dashboards:{provider['options']['path']}:ro" in compose
