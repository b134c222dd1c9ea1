"""Arguments that a kernel takes apart once, and not at every call.

A learner hands its kernels some sixty arrays in named tuples. Numba unpacks each of them at every call, which takes as
long as several steps of inference. A bundle is unpacked when it is made, and handed over as one pointer after that. It
sees what happens in its arrays; a tuple with another array in it asks for another bundle.
"""

from __future__ import annotations

from typing import Any

from numba import types
from numba.experimental import structref

from spiked.learners.jit import kernel


@structref.register
class _BundleType(types.StructRef):  # type: ignore[misc]
    """One field, `parts`: a tuple of named tuples."""

    def preprocess_fields(self, fields: Any) -> Any:
        return tuple((name, types.unliteral(kind)) for name, kind in fields)


class _Bundle(structref.StructRefProxy):  # type: ignore[misc]
    """What compiled code hands to Python: a pointer."""


structref.define_proxy(_Bundle, _BundleType, ["parts"])


@kernel
def _make(parts):  # type: ignore[no-untyped-def]
    return _Bundle(parts)


class Bundles:
    """The bundle of one owner, made anew when its parts are others."""

    def __init__(self) -> None:
        self._parts: tuple[Any, ...] = ()
        self._bundle: Any = None

    def of(self, *parts: Any) -> Any:
        """A bundle of these named tuples; in a kernel, ``bundle.parts``."""
        known = self._parts
        if len(parts) == len(known):
            for a, b in zip(parts, known):
                if a is not b:
                    break
            else:
                return self._bundle
        self._bundle, self._parts = _make(parts), parts
        return self._bundle
