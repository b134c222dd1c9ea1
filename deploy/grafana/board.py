"""Dashboards as data: what a panel shows, in a few words, and what `grafana-foundation-sdk` makes of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from grafana_foundation_sdk.builders import common, dashboard, prometheus, stat, timeseries
from grafana_foundation_sdk.models.common import (
    BigValueColorMode,
    BigValueGraphMode,
    GraphDrawStyle,
    LegendDisplayMode,
    LegendPlacement,
    TooltipDisplayMode,
    VisibilityMode,
)
from grafana_foundation_sdk.models.dashboard import (
    DashboardCursorSync,
    DashboardLinkType,
    DataSourceRef,
    Threshold,
    ThresholdsMode,
    VariableRefresh,
    VariableSort,
)

DATASOURCE = DataSourceRef(type_val="prometheus", uid="${datasource}")
HEIGHT, STAT_HEIGHT = 7, 4
WIDTH = 24
"""Of a dashboard, in Grafana's units."""
GOOD, DOUBTFUL, BAD = "green", "orange", "red"


@dataclass
class Panel:
    """One panel.

    Parameters
    ----------
    title, text : what it shows, and how to read it.
    queries : PromQL and the legend of each; an empty legend is Prometheus's own.
    unit : one of Grafana's units.
    least, most : ends of the axis; None leaves them to the data.
    doubtful, bad : from where a number is orange or red; where `bad` is the lower one, below it.
    number : one number, as the last value says, instead of lines.
    width : of 24.
    """

    title: str
    text: str
    queries: list[tuple[str, str]]
    unit: str = "short"
    least: float | None = 0.0
    most: float | None = None
    doubtful: float | None = None
    bad: float | None = None
    number: bool = False
    width: int = 8

    def build(self) -> Any:
        """The builder of this panel."""
        made: Any = self._number() if self.number else self._lines()
        made.title(self.title).description(self.text).datasource(DATASOURCE).unit(self.unit).span(self.width)
        if self.least is not None:
            made.min(self.least)
        if self.most is not None:
            made.max(self.most)
        if self.bad is not None:
            made.thresholds(dashboard.ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE).steps(self._steps(self.bad)))
        for k, (expr, legend) in enumerate(self.queries):
            query = prometheus.Dataquery().expr(expr).legend_format(legend or "__auto").ref_id(chr(ord("A") + k))
            made.with_target(query.instant() if self.number else query.range())
        return made

    def _steps(self, bad: float) -> list[Threshold]:
        doubtful = bad if self.doubtful is None else self.doubtful
        if doubtful <= bad:
            return [Threshold(None, GOOD), Threshold(doubtful, DOUBTFUL), Threshold(bad, BAD)]
        return [Threshold(None, BAD), Threshold(bad, DOUBTFUL), Threshold(doubtful, GOOD)]

    def _number(self) -> stat.Panel:
        reduced = common.ReduceDataOptions().calcs(["lastNotNull"]).values(False)
        made = stat.Panel().reduce_options(reduced).graph_mode(BigValueGraphMode.NONE).height(STAT_HEIGHT)
        return made.color_mode(BigValueColorMode.VALUE if self.bad is not None else BigValueColorMode.NONE)

    def _lines(self) -> timeseries.Panel:
        legend = common.VizLegendOptions().display_mode(LegendDisplayMode.LIST).placement(LegendPlacement.BOTTOM)
        tooltip = common.VizTooltipOptions().mode(TooltipDisplayMode.MULTI)
        made = timeseries.Panel().legend(legend.show_legend(True)).tooltip(tooltip).height(HEIGHT)
        made.draw_style(GraphDrawStyle.LINE).line_width(1.5).fill_opacity(6).show_points(VisibilityMode.NEVER)
        return made.span_nulls(False)


@dataclass
class Board:
    """One dashboard: rows of panels, each row under a question that it answers."""

    uid: str
    title: str
    text: str
    rows: dict[str, list[Panel]]
    per_stream: bool = True
    many: bool = False
    tags: list[str] = field(default_factory=lambda: ["spiked"])

    def build(self) -> Any:
        """The dashboard, as the model that is written as JSON."""
        board = dashboard.Dashboard(self.title).uid(self.uid).description(self.text).tags(self.tags).readonly()
        board.time("now-1h", "now").refresh("30s").timezone("browser").tooltip(DashboardCursorSync.CROSSHAIR)
        board.with_variable(dashboard.DatasourceVariable("datasource").label("Data source").type("prometheus"))
        board.with_variable(self._variable("instance", "Daemon", "spiked_build_info"))
        if self.per_stream:
            board.with_variable(self._variable("stream", "Stream", 'spiked_events_total{instance=~"$instance"}'))
        link = dashboard.DashboardLink("spiked").type(DashboardLinkType.DASHBOARDS).tags(["spiked"])
        board.link(link.keep_time(True).include_vars(True).as_dropdown(False))
        alerts = 'ALERTS{alertname=~"Spiked.*", alertstate="firing", instance=~"$instance"}'
        board.annotation(
            dashboard.AnnotationQuery().name("Alerts").datasource(DATASOURCE).enable(True).icon_color(BAD).expr(alerts)
        )
        for question, panels in self.rows.items():
            board.with_row(dashboard.Row(question))
            for panel in panels:
                board.with_panel(panel.build())
        made = board.build()
        for number, part in enumerate(made.panels, 1):
            part.id_val = number
        return made

    def _variable(self, name: str, label: str, series: str) -> dashboard.QueryVariable:
        query = {"query": f"label_values({series}, {name})", "refId": name}
        made = dashboard.QueryVariable(name).label(label).datasource(DATASOURCE).query(query).sort(VariableSort(1))
        many = self.many or name == "stream"
        made.refresh(VariableRefresh.ON_TIME_RANGE_CHANGED).multi(many).include_all(many)
        return made.all_value(".*") if many else made
