"""A thread that writes checkpoints, so that no step waits for a disk."""

from __future__ import annotations

import threading
from typing import Any

from numpy.typing import NDArray

from spiked.service.checkpoints import CheckpointStore, Saved


class CheckpointWriter:
    """Writes what is submitted, one at a time; of those that wait, only the newest is written.

    Attributes
    ----------
    last : the newest checkpoint written, or None.
    successes, failures, skipped : how many were written, could not be, gave way to a newer one (or came after `close`).
    last_error : why the newest attempt failed, in one line; empty if it did not.
    """

    def __init__(self, store: CheckpointStore) -> None:
        self.store = store
        self.last: Saved | None = None
        self.successes = self.failures = self.skipped = 0
        self.last_error = ""
        self._changed = threading.Condition()
        self._waiting: tuple[dict[str, NDArray], dict[str, Any]] | None = None
        self._busy = False
        self._closed = False
        # A daemon thread: a hanging disk must not keep the process from ending, and a write cut short does no harm
        self._thread = threading.Thread(target=self._work, name="checkpoints", daemon=True)
        self._thread.start()

    def submit(self, arrays: dict[str, NDArray], record: dict[str, Any]) -> None:
        """Have a checkpoint written soon; `arrays` and `record` are the writer's from now on. Never raises."""
        with self._changed:
            self.skipped += self._closed or self._waiting is not None
            if not self._closed:
                self._waiting = arrays, record
                self._changed.notify_all()

    def flush(self, timeout_s: float) -> bool:
        """Wait until all is written; False where the time is over before."""
        with self._changed:
            return self._changed.wait_for(lambda: self._waiting is None and not self._busy, timeout_s)

    def close(self, timeout_s: float = 2.0) -> bool:
        """Write what waits and end the thread; False where the time is over before."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting is not None or self._closed)
                if self._waiting is None:
                    return
                arrays, record = self._waiting
                self._waiting, self._busy = None, True
            saved, error = self._save(arrays, record)
            del arrays, record  # a copy of all weights must not lie about until the next one
            with self._changed:
                self.last, self.last_error = saved or self.last, error
                self.successes += saved is not None
                self.failures += saved is None
                self._busy = False
                self._changed.notify_all()

    def _save(self, arrays: dict[str, NDArray], record: dict[str, Any]) -> tuple[Saved | None, str]:
        try:
            return self.store.save(arrays, record), ""
        except (OSError, MemoryError) as error:
            return None, str(error) or f"{self.store.directory}: out of memory"
