"""``spiked run``: the daemon."""

from __future__ import annotations

import argparse
from pathlib import Path

from spiked.service.cli_errors import RunError, UsageError
from spiked.service.cli_text import example

EXAMPLES = """\
  spiked run configs/nmnist.toml
  spiked run my.toml --check"""


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``run`` to the command line."""
    parser = commands.add_parser("run", help="the daemon", description="Run the daemon.", **example(EXAMPLES))
    parser.add_argument("config", metavar="CONFIG.toml", help="its configuration")
    parser.add_argument("--check", action="store_true", help="only check, and print the effective configuration")


def run(args: argparse.Namespace) -> int:
    """Run until told to stop."""
    from spiked.service.configfile import ConfigError, effective_toml, load_config
    from spiked.service.security import load_keys

    try:
        config = load_config(args.config)
    except ConfigError as error:
        raise UsageError(str(error)) from None
    if args.check:
        try:
            load_keys(config)  # says whether they can be used, and shows none
        except ConfigError as error:
            raise UsageError(f"{args.config}: {error}") from None
        print(effective_toml(config), end="")
        return 0
    from spiked.io.endpoint import EndpointError
    from spiked.service.checkpoints import CheckpointError
    from spiked.service.daemon import Daemon, StateDirError
    from spiked.service.knowledge import KnowledgeError
    from spiked.service.log import set_up
    from spiked.service.machine import HELP

    set_up(config.daemon.log_level, config.daemon.log_format)
    try:
        return Daemon(config, Path(args.config).absolute()).run()
    except EndpointError as error:
        raise RunError(f"{error}; see {HELP}#ports") from None
    except StateDirError as error:
        raise RunError(f"{error}; see {HELP}#state") from None
    except CheckpointError as error:
        raise RunError(str(error)) from None
    except (ConfigError, KnowledgeError) as error:
        raise UsageError(f"{args.config}: {error}") from None
