"""``python -m spiked`` is ``spiked``."""

from spiked.service.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
