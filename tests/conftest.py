"""Shared fixtures. Real recordings are read where they lie and never copied; tests that need them skip without."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# machines are shared, and the first example may have to compile
settings.register_profile("spiked", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("spiked")

ROOT = Path(__file__).resolve().parent.parent


def find_data() -> Path | None:
    """Folder of the real recordings: `$SPIKED_DATA`, else ``../shared/data`` beside the checkout."""
    folder = Path(os.environ.get("SPIKED_DATA") or ROOT.parent / "shared" / "data")
    return folder if (folder / "README.md").exists() else None


@pytest.fixture(scope="session")
def data_dir() -> Path:
    folder = find_data()
    if folder is None:
        pytest.skip("no real recordings: neither $SPIKED_DATA nor ../shared/data holds any")
    return folder
