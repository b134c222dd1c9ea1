"""Arguments that a kernel takes apart once, and not at every call.

A learner hands its kernels some sixty arrays in named tuples. Numba unpacks each of them at every call, which takes as
long as several steps of inference. A bundle is unpacked when it is made, and handed over as one pointer after that. It
sees what happens in its arrays; a tuple with another array in it asks for another bundle.

Its arrays are borrowed: compiled code counts no references to them, and what Python holds of a bundle keeps its parts.
Counting would go to sixty places in memory at every call, each to be fetched when the kernel has not run for a while.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.experimental import structref
from numba.extending import intrinsic

from spiked.learners.jit import kernel


@structref.register
class _BundleType(types.StructRef):  # type: ignore[misc]
    """One field, `parts`: a tuple of named tuples."""

    def preprocess_fields(self, fields: Any) -> Any:
        return tuple((name, types.unliteral(kind)) for name, kind in fields)


class _Bundle(structref.StructRefProxy):  # type: ignore[misc]
    """What compiled code hands to Python: a pointer; with `kept`, whose arrays it borrows."""

    kept: Any = ()


structref.define_proxy(_Bundle, _BundleType, ["parts"])


@intrinsic
def _borrowed(_typing_context: Any, parts: Any) -> Any:
    """The same tuple (of tuples) of arrays and numbers, with arrays that nobody counts references to."""

    def borrow(context: Any, builder: Any, kind: Any, value: Any) -> Any:
        if isinstance(kind, types.Array):
            array = cgutils.create_struct_proxy(kind)(context, builder, value=value)
            array.meminfo = ir.Constant(array.meminfo.type, None)
            array.parent = ir.Constant(array.parent.type, None)
            return array._getvalue()
        if isinstance(kind, types.BaseTuple):
            for k, inner in enumerate(kind):
                taken = borrow(context, builder, inner, builder.extract_value(value, k))
                value = builder.insert_value(value, taken, k)
        return value

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return borrow(context, builder, signature.args[0], args[0])

    return parts(parts), generate


@kernel
def _make(parts):  # type: ignore[no-untyped-def]
    return _Bundle(_borrowed(parts))


class Bundles:
    """The bundle of one owner, made anew when its parts are others."""

    def __init__(self) -> None:
        self._bundle: Any = None

    def of(self, *parts: Any) -> Any:
        """A bundle of these named tuples and arrays; in a kernel, ``bundle.parts``."""
        known = () if self._bundle is None else self._bundle.kept
        if len(parts) == len(known):
            for a, b in zip(parts, known):
                if a is not b:
                    break
            else:
                return self._bundle
        self._bundle = _make(parts)
        self._bundle.kept = parts
        return self._bundle
