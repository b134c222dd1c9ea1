"""The four dashboards: all daemons at a glance, one stream, its layers, and the process."""

from __future__ import annotations

from board import Board, Panel

ONE = 'instance=~"$instance"'
STREAM = f'{ONE}, stream=~"$stream"'
RATE = "[$__rate_interval]"


def quantiles(name: str, legend: str) -> list[tuple[str, str]]:
    """The median and the slowest of a hundred of a histogram."""
    buckets = f"sum by (instance, stream, le) (rate({name}_bucket{{{STREAM}}}{RATE}))"
    return [(f"histogram_quantile({q}, {buckets})", f"{legend} {p}") for q, p in ((0.5, "median"), (0.99, "99 %"))]


OVERVIEW = Board(
    "spiked-overview", "spiked: overview", "All daemons: alive, in time, learning, remembering.",
    {
        "Is it alive?": [
            Panel("Answers", "1 while scrapes are answered.", [(f'up{{job="spiked", {ONE}}}', "{{instance}}")],
                  "none", most=1, doubtful=1, bad=0.5, number=True, width=5),
            Panel("Since progress", "Since a message was settled, or none waited.",
                  [(f"spiked_progress_age_seconds{{{ONE}}}", "{{instance}}")], "s", doubtful=5, bad=30, number=True,
                  width=5),
            Panel("Up for", "Since the daemon was started.",
                  [(f"time() - spiked_start_time_seconds{{{ONE}}}", "{{instance}}")], "s", number=True, width=5),
            Panel("Last checkpoint", "What was learnt since would be lost with the process.",
                  [(f"spiked_checkpoint_age_seconds{{{ONE}}}", "{{instance}}")], "s", doubtful=300, bad=900,
                  number=True, width=5),
            Panel("Alerts", "Alerts of spiked that fire now.",
                  [('count(ALERTS{alertname=~"Spiked.*", alertstate="firing"}) or vector(0)', "firing")], "none",
                  doubtful=1, bad=1, number=True, width=4),
        ],
        "Does it keep up?": [
            Panel("Events", "Events that arrive per second.", [(f"rate(spiked_events_total{{{STREAM}}}{RATE})",
                  "{{instance}} {{stream}}")], "cps"),
            Panel("Work", "Share of a core that the steps take, learning included; at 1 the daemon falls behind.",
                  [(f"rate(spiked_step_seconds_sum{{{STREAM}}}{RATE})", "{{instance}} {{stream}}")], "percentunit",
                  doubtful=0.7, bad=0.9),
            Panel("Latency", "From the arrival of the message that completes a prediction to its publication.",
                  quantiles("spiked_latency_seconds", "{{instance}} {{stream}}"), "s"),
            Panel("Lag", "Age of the last message when it was taken, by its sender's clock.",
                  [(f"spiked_lag_seconds{{{STREAM}}}", "{{instance}} {{stream}}")], "s", doubtful=0.5, bad=1),
            Panel("Lost and refused", "Messages missing by the gaps in their numbers, and messages refused.",
                  [(f"rate(spiked_messages_lost_total{{{STREAM}}}{RATE})", "{{instance}} {{stream}} lost"),
                   (f"sum by (instance, stream) (rate(spiked_messages_rejected_total{{{ONE}}}{RATE}))",
                    "{{instance}} {{stream}} refused")], "cps"),
            Panel("Overload", "0: nothing gives way; 1: learning waits; 2: events are shed too.",
                  [(f"spiked_overload{{{STREAM}}}", "{{instance}} {{stream}}")], "none", most=2, doubtful=1, bad=2),
        ],
        "Does it learn?": [
            Panel("Accuracy", "What was said before it was told, over about 100 labelled windows.",
                  [(f"spiked_accuracy{{{STREAM}}}", "{{instance}} {{stream}}")], "percentunit", most=1),
            Panel("Loss", "Of labelled windows, before they were learnt from.",
                  [(f"spiked_loss{{{STREAM}}}", "{{instance}} {{stream}}")], least=None),
            Panel("Learnt from", "Labelled windows per second that taught.",
                  [(f"rate(spiked_updates_total{{{STREAM}}}{RATE})", "{{instance}} {{stream}}")], "cps"),
        ],
        "Does it forget?": [
            Panel("Forgetting", "Mean over classes: best accuracy so far less the present one, on what was taught.",
                  [(f"spiked_forgetting{{{STREAM}}}", "{{instance}} {{stream}}")], "percentunit"),
            Panel("Weakest class", "The class that the exam finds least known.",
                  [(f"min by (instance, stream) (spiked_class_accuracy{{{STREAM}}})", "{{instance}} {{stream}}")],
                  "percentunit", most=1),
            Panel("Undone", "Returns to an older state, because learning did harm or somebody asked.",
                  [(f"sum by (instance, stream) (spiked_rollbacks_total{{{STREAM}}})", "{{instance}} {{stream}}")],
                  "none"),
        ],
    },
    many=True,
)  # fmt: skip

STREAMS = Board(
    "spiked-stream", "spiked: stream", "One stream of one daemon, from what comes in to what it says.",
    {
        "What comes in": [
            Panel("Events", "Per second.", [(f"rate(spiked_events_total{{{STREAM}}}{RATE})", "{{stream}}")], "cps"),
            Panel("Messages", "Accepted, by kind.",
                  [(f"rate(spiked_messages_total{{{STREAM}}}{RATE})", "{{stream}} {{kind}}")], "cps"),
            Panel("Events left out", "By reason; shed: under overload. Clamped ones were late, and moved.",
                  [(f"rate(spiked_events_dropped_total{{{STREAM}}}{RATE})", "{{stream}} {{reason}}"),
                   (f"rate(spiked_events_clamped_total{{{STREAM}}}{RATE})", "{{stream}} clamped")], "cps"),
            Panel("Messages refused", "Since the start, by reason.",
                  [(f"spiked_messages_rejected_total{{{STREAM}}} > 0 or "
                    f"sum by (stream) (spiked_messages_rejected_total{{{STREAM}}})", "{{stream}} {{reason}}")], "none"),
            Panel("Lost, begun anew", "Since the start: messages by the gaps in their numbers; starts of a sender.",
                  [(f"spiked_messages_lost_total{{{STREAM}}}", "{{stream}} lost"),
                   (f"spiked_restarts_total{{{STREAM}}}", "{{stream}} begun anew")], "none"),
            Panel("Stream time", "1,000 steps per second: 1 is real time at 1 ms. Shed ones ran without events.",
                  [(f"rate(spiked_steps_total{{{STREAM}}}{RATE}) / 1000", "{{stream}}"),
                   (f"rate(spiked_steps_shed_total{{{STREAM}}}{RATE}) / 1000", "{{stream}} shed")]),
        ],
        "How long it takes": [
            Panel("Time of a step", "Learning included.", quantiles("spiked_step_seconds", "{{stream}}"), "s"),
            Panel("Latency", "Arrival to publication.", quantiles("spiked_latency_seconds", "{{stream}}"), "s"),
            Panel("Lag", "Age of the last message when it was taken, by its sender's clock.",
                  [(f"spiked_lag_seconds{{{STREAM}}}", "{{stream}}")], "s"),
        ],
        "What it says, and what it is told": [
            Panel("Predictions", "Per second, by class.",
                  [(f"rate(spiked_predictions_total{{{STREAM}}}{RATE})", "{{stream}} {{class}}")], "cps"),
            Panel("Targets", "Received so far, by class.",
                  [(f"spiked_targets_total{{{STREAM}}}", "{{stream}} {{class}}")], "none"),
            Panel("Learnt from", "Windows per second that taught, and that overload kept from it.",
                  [(f"rate(spiked_updates_total{{{STREAM}}}{RATE})", "{{stream}}"),
                   (f"rate(spiked_updates_shed_total{{{STREAM}}}{RATE})", "{{stream}} shed")], "cps"),
            Panel("Accuracy", "Said before it was told, over about 100 labelled windows.",
                  [(f"spiked_accuracy{{{STREAM}}}", "{{stream}}")], "percentunit", most=1),
            Panel("Accuracy by class", "By the exam, on samples that were taught before.",
                  [(f"spiked_class_accuracy{{{STREAM}}}", "{{stream}} {{class}}")], "percentunit", most=1),
            Panel("Forgetting", "Best accuracy so far less the present one, mean over classes.",
                  [(f"spiked_forgetting{{{STREAM}}}", "{{stream}}")], "percentunit"),
        ],
    },
)  # fmt: skip

LAYERS = Board(
    "spiked-layers", "spiked: layers", "The neurons of each layer, and the weights into them; the head comes last.",
    {
        "Do they fire?": [
            Panel("Rate of a neuron", "Spikes per second of clock, mean of a layer.",
                  [(f"rate(spiked_spikes_total{{{STREAM}}}{RATE}) / spiked_neurons{{{STREAM}}}",
                    "{{stream}} layer {{layer}}")], "hertz", width=12),
            Panel("Silent neurons", "Share of a layer without a spike for 10 s of stream time.",
                  [(f"spiked_silent_neurons{{{STREAM}}} / spiked_neurons{{{STREAM}}}", "{{stream}} layer {{layer}}")],
                  "percentunit", most=1, doubtful=0.5, bad=0.95, width=12),
            Panel("Spikes per event", "What a layer makes of an event.",
                  [(f"rate(spiked_spikes_total{{{STREAM}}}{RATE}) / on (instance, stream) group_left () "
                    f"(rate(spiked_events_total{{{STREAM}}}{RATE}) > 0)", "{{stream}} layer {{layer}}")], width=12),
            Panel("Threshold", "Mean of a layer.",
                  [(f"spiked_threshold_mean{{{STREAM}}}", "{{stream}} layer {{layer}}")], width=12),
        ],
        "Do they learn?": [
            Panel("Weights", "Frobenius norm; fixed layers stand still.",
                  [(f"spiked_weight_norm{{{STREAM}}}", "{{stream}} layer {{layer}}")], width=12),
            Panel("Change of the weights", "Norm of the change since the scrape before.",
                  [(f"spiked_update_norm{{{STREAM}}}", "{{stream}} layer {{layer}}")], width=12),
        ],
    },
)  # fmt: skip

OPERATIONS = Board(
    "spiked-operations", "spiked: operations", "The process, its checkpoints, and what was done to it.",
    {
        "The process": [
            Panel("Memory", "Resident.", [(f'process_resident_memory_bytes{{job="spiked", {ONE}}}', "{{instance}}")],
                  "bytes"),
            Panel("Processor", "Share of a core.",
                  [(f'rate(process_cpu_seconds_total{{job="spiked", {ONE}}}{RATE})', "{{instance}}")], "percentunit"),
            Panel("File descriptors", "In use.",
                  [(f'process_open_fds{{job="spiked", {ONE}}}', "{{instance}}")], "none"),
            Panel("Starts", "Within half an hour.", [(f"changes(spiked_start_time_seconds{{{ONE}}}[30m])",
                  "{{instance}}")], "none", number=True, doubtful=1, bad=3, width=6),
            Panel("Kernels", "Time to compile or load them at the start.",
                  [(f"spiked_compile_seconds{{{ONE}}}", "{{instance}}")], "s", number=True, width=6),
            Panel("Version", "What runs here.",
                  [(f"spiked_build_info{{{ONE}}}", "{{version}}, {{python}}, {{machine}}")], "none", number=True,
                  width=12),
        ],
        "Checkpoints": [
            Panel("Age", "Since the last good one.", [(f"spiked_checkpoint_age_seconds{{{ONE}}}", "{{instance}}")], "s",
                  doubtful=300, bad=900, width=6),
            Panel("Size", "Of the last one.",
                  [(f"spiked_checkpoint_bytes{{{ONE}}}", "{{instance}}")], "bytes", width=6),
            Panel("Time to write", "The last one; no step waits for it.",
                  [(f"spiked_checkpoint_seconds{{{ONE}}}", "{{instance}}")], "s", width=6),
            Panel("Written", "Since the start, by result.",
                  [(f"spiked_checkpoints_total{{{ONE}}}", "{{instance}} {{result}}")], "none", width=6),
        ],
        "What was done to it": [
            Panel("Undone", "Returns to an older state, by stream and reason.",
                  [(f"spiked_rollbacks_total{{{ONE}}} > 0 or sum by (stream) (spiked_rollbacks_total{{{ONE}}})",
                    "{{stream}} {{reason}}")], "none"),
            Panel("Learns", "1 while a stream learns.",
                  [(f"spiked_learning_enabled{{{ONE}}}", "{{stream}}")], "none", most=1),
            Panel("Configuration read again", "Since the start, by result.",
                  [(f"spiked_reloads_total{{{ONE}}}", "{{instance}} {{result}}")], "none"),
            Panel("Messages of nobody", "Refused since the start, for streams that are not configured.",
                  [(f'sum by (instance) (spiked_messages_rejected_total{{{ONE}, stream="unknown"}})', "{{instance}}")],
                  "none", width=12),
            Panel("Predictions missed", "By slow subscribers, since the start.",
                  [(f"spiked_predictions_dropped_total{{{ONE}}}", "{{stream}}")], "none", width=12),
        ],
        "Who connects": [
            Panel("Connections", "At present, by socket.",
                  [(f"spiked_connections{{{ONE}}}", "{{instance}} {{socket}}")], "none", width=12),
            Panel("Connections refused", "Since the start, by reason.",
                  [(f"sum by (instance, reason) (spiked_connections_refused_total{{{ONE}}})",
                    "{{instance}} {{reason}}")], "none", width=12),
        ],
    },
    per_stream=False,
)  # fmt: skip

BOARDS = {"overview": OVERVIEW, "stream": STREAMS, "layers": LAYERS, "operations": OPERATIONS}
