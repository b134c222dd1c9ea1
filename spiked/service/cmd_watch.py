"""``spiked watch``: predictions as they come."""

from __future__ import annotations

import argparse
import sys

from spiked.service.cli_text import add_keys, example

EXAMPLES = """\
  spiked watch tcp://127.0.0.1:5571 --stream cam0"""


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``watch`` to the command line."""
    parser = commands.add_parser(
        "watch", help="show predictions as they come", description="Show predictions as they come, until Ctrl-C.",
        **example(EXAMPLES),
    )  # fmt: skip
    parser.add_argument("endpoint", metavar="ENDPOINT", help="predictions.endpoint of the daemon")
    parser.add_argument("--stream", metavar="ID", help="only this stream")
    add_keys(parser)
    parser.add_argument("--json", action="store_true", help="print each prediction as it came")
    parser.add_argument("--count", type=int, metavar="N", help="stop after N predictions")


def run(args: argparse.Namespace) -> int:
    """Print until interrupted."""
    import zmq

    from spiked.service.client import Patience, connect, wait_readable

    socket = connect(zmq.SUB, args.endpoint, args.keys)
    socket.setsockopt_string(zmq.SUBSCRIBE, f"{args.stream}/" if args.stream else "")
    live = sys.stdout.isatty() and not args.json
    seen = 0
    patience = Patience("watch", args.endpoint, socket, args.keys)
    try:
        while args.count is None or seen < args.count:
            if not wait_readable(socket):
                patience.tick()
                continue
            patience.done()
            payload = socket.recv_multipart()[-1]
            seen += 1
            if args.json:
                print(payload.decode(), flush=True)
            else:
                _show(payload, live)
    finally:
        socket.close()
        if live:
            print()
    return 0


def _show(payload: bytes, live: bool) -> None:
    """One line for a prediction; on a terminal, a running one that is kept where a sample ended."""
    import msgspec

    p = msgspec.json.decode(payload)
    what = f"{p['label']!s:<12} {p['confidence']:6.1%}" if p["class"] is not None else " ".join(
        f"{s:8.3f}" for s in p["scores"]
    )  # fmt: skip
    final = p.get("final", False)
    bar = "#" * round(20 * p["confidence"])
    line = (
        f"{p['stream']:<12} {p['t_us'] / 1e6:10.3f} s  {what}  {bar:<20} {p['latency_us']:>7} us  "
        f"updates {p['updates']:<6}{'final' if final else '     '}"
    )
    if live:
        sys.stdout.write("\r" + line + ("\n" if final else ""))
        sys.stdout.flush()
    else:
        print(line, flush=True)
