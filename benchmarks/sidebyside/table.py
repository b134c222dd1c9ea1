"""What was measured, as a text: the goals, our own figures, every peer, the roofline, growth."""

from __future__ import annotations

from typing import Any, NamedTuple

Row = dict[str, Any]


class Goal(NamedTuple):
    """A figure that is to be reached: a peer's ratio to ours in one workload, at one `k`."""

    workload: str
    k: int
    peer: str
    times: float


GOALS = (
    Goal("W1", 50, "snnTorch", 150),
    Goal("W2", 50, "snnTorch, one-step online", 100),
    Goal("W2", 50, "JAX, by hand: online", 18),
    Goal("STDP", 50, "BindsNET, PostPre", 250),
    Goal("STDP", 50, "Brian2 (C++), STDP", 80),
    Goal("W3", 500, "snnTorch, one-step online", 100),
    Goal("W3", 500, "torch, by hand: dense online", 40),
    Goal("W4", 50, "braintrace, pp_prop", 15),
    Goal("W4", 50, "NEST, e-prop", 400),
)
LEARNING_GOAL, ROOFLINE_GOAL, GROWTH_GOAL = 2.0, 1.5, 1.1


def number(x: float) -> str:
    """Three figures."""
    return f"{x:.0f}" if x >= 99.5 else f"{x:.1f}" if x >= 9.95 else f"{x:.2f}"


def spread(s: dict[str, float]) -> str:
    """Median, and from the smallest to the largest."""
    return f"{number(s['median'])} ({number(s['min'])}-{number(s['max'])})"


def table(head: list[str], rows: list[list[str]]) -> str:
    """A table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def _reference(row: Row) -> str:
    return "many" if row["calls"] == "many" else "one"


def goals(rows: list[Row]) -> str:
    """The goals and what was reached; what was not measured says why."""
    lines = []
    for goal in GOALS:
        found = [r for r in rows if r.get("peer") == goal.peer and r["workload"] == goal.workload and r["k"] == goal.k]
        what = f"{goal.workload}, k = {goal.k}, against {goal.peer}"
        if not found or "ratio" not in found[0]:
            why = found[0].get("failed", "") if found else "not measured"
            lines.append([what, f"{goal.times:g} times", why, "", ""])
            continue
        row = found[0]
        ratios, side = row["ratio"], _reference(row)
        other = "many" if side == "one" else "one"
        reached = " reached" if ratios[side]["median"] >= goal.times else ""
        lines.append([
            what, f"{goal.times:g} times", spread(ratios[side]) + reached,
            spread(ratios[other]), f"{number(row['us'][side]['median'])} / {number(row['us']['peer']['median'])}",
        ])  # fmt: skip
    for row in rows:
        if "learning over inference" in row and row["workload"] in ("W2", "W4"):
            one, many = list(row["learning over inference"].values())
            what = f"{row['workload']}, k = {row['k']}: learning over the same network's inference"
            lines.append([what, f"at most {LEARNING_GOAL}", spread(one), spread(many), ""])
        if row["unit"] == "roofline":
            what = f"{row['workload']}, k = {row['k']}: distance to the roofline"
            lines.append([what, f"at most {ROOFLINE_GOAL}", "", spread(row["over"]), ""])
        if row["unit"] == "growth" and row["of"].startswith("inputs"):
            what = f"{row['task']}, k = {row['k']}: ten times the {row['of']}, at the same events"
            lines.append([what, f"at most {GROWTH_GOAL}", "", spread(row["ratio"]), ""])
        if row["unit"] == "growth" and row["of"] == "events":
            for name, ratio in row["ratio"].items():
                lines.append([f"{row['task']}, k = {name}: ten times the events", "10: linear", "", spread(ratio), ""])
    return table(["figure", "goal", "measured", "the same in our other form", "us per step, ours / theirs"], lines)


def peers(rows: list[Row]) -> str:
    """Every peer: its ratio to ours, and both times."""
    lines = []
    for r in rows:
        if "absent" in r:
            lines.append([r["unit"], "", "", "absent", r["absent"], "", ""])
        elif "peer" not in r and "failed" in r:
            lines.append([r["unit"], "", "", "failed", r["failed"], "", ""])
        elif "peer" in r:
            who = f"{r['peer']} ({r['version']})" + {"in all": " = ours", "forward": " = ours forward"}.get(
                r.get("same", ""), ""
            )
            if "failed" in r:
                lines.append([who, r["workload"], str(r["k"]), r["calls"], r["failed"], "", ""])
            else:
                us = "{} / {} / {}".format(*(number(r["us"][side]["median"]) for side in ("one", "many", "peer")))
                ratios = [spread(r["ratio"][side]) for side in ("one", "many")]
                lines.append([who, r["workload"], str(r["k"]), r["calls"], us, *ratios])
    lines.sort(key=lambda line: (line[1], line[0]))
    head = ["peer", "workload", "k", "steps a call", "us per step: ours, one a call / many / theirs"]
    return table([*head, "times as fast: one a call", "many a call"], lines)


def ours(rows: list[Row]) -> str:
    """Our own times."""
    lines = []
    for r in rows:
        if r["unit"] == "ours" and "us" in r:
            over = r.get("learning over inference", {})
            lines.append([
                r["workload"], str(r["k"]), number(r["spikes"]), spread(r["us"]["1"]), spread(r["us"][str(r["many"])]),
                *([spread(x) for x in over.values()] or ["", ""]),
            ])  # fmt: skip
    head = ["workload", "k", "hidden spikes a step", "us per step, one a call", "many a call"]
    return table([*head, "learning over inference, one a call", "many a call"], lines)


def limits(rows: list[Row]) -> str:
    """The roofline."""
    lines = [
        [r["workload"], str(r["k"]), f"{r['bytes'] / 1e3:.0f} kB", spread(r["gb_s"]), spread(r["limit_us"]),
         spread(r["us"]), spread(r["over"]), f"{r['share']['median']:.0%}"]
        for r in rows if r["unit"] == "roofline" and "us" in r
    ]  # fmt: skip
    head = ["kernel", "k", "must move a step", "GB/s, same run", "limit, us", "ours, us", "over the limit", "share"]
    return table(head, lines)


def growth(rows: list[Row]) -> str:
    """Time against inputs and events."""
    lines = []
    for r in rows:
        if r["unit"] == "growth" and "us" in r:
            times = ", ".join(f"{name}: {number(s['median'])}" for name, s in r["us"].items())
            ratio = {"": r["ratio"]} if r["of"].startswith("inputs") else r["ratio"]
            said = "; ".join(f"{name} {spread(s)}".strip() for name, s in ratio.items())
            if "line" in r:
                a, b = r["line"]
                said += f"; {number(a)} + {b:.3f} k us, off by {r['off']:.0%} at most"
            lines.append([r["of"], r["task"], str(r.get("k", "")), times, said])
    return table(["growth of", "task", "k", "us per step", "ratio"], lines)


def report(result: Row) -> str:
    """All of it."""
    rows, m = result["rows"], result["machine"]
    head = (
        f"{m['processor']}, {m['cores']} cores, load {m['load'][0]}, Python {m['python']}; one thread; "
        f"{result['rounds']} turns of {result['turn_s']} s. Median (smallest-largest).\n"
    )
    parts = {"Goals": goals, "Ours": ours, "Peers": peers, "Roofline": limits, "Growth": growth}
    return head + "".join(f"\n### {title}\n\n{part(rows)}" for title, part in parts.items())
