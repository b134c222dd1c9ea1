"""The two files of a checkpoint as bytes: ``<name>.safetensors`` holds the arrays, ``<name>.json`` the rest.

The JSON file is the commit point: it is written last and names the size and the CRC-32 of the arrays' file, so a
checkpoint exists once its JSON does, and halves of two checkpoints never pass for one. Its own CRC-32 is its last
member, over all bytes before. The sums are needed because the safetensors format does not notice flipped bits; they
guard against accidents, not against an attacker who can write the files.

Format: https://github.com/huggingface/safetensors (8 bytes of header length, a JSON header, the arrays' bytes).
"""

from __future__ import annotations

import os
import re
import zlib
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load

FORMAT = 1
DATA, JSON, DAMAGED = ".safetensors", ".json", ".damaged"
NAME = re.compile(r"(\d{6,})-(\d{8}T\d{6}Z)")
MAX_DATA_BYTES = 1 << 32
MAX_JSON_BYTES = 1 << 26
"""What is larger is neither written nor read: a damaged size must not take all memory."""

_DTYPES = {
    "b1": "BOOL", "i1": "I8", "u1": "U8", "i2": "I16", "u2": "U16", "i4": "I32", "u4": "U32", "i8": "I64", "u8": "U64",
    "f2": "F16", "f4": "F32", "f8": "F64",
}  # fmt: skip


class CheckpointError(OSError):
    """A checkpoint could not be written or read; one line that names the path and the cause."""


class DamagedError(ValueError):
    """Files that are there but are not what was written; says what is wrong with them."""


class _Version(msgspec.Struct):
    format: int


class Manifest(msgspec.Struct):
    """The JSON file, but for its own CRC-32."""

    format: int
    name: str
    created: str
    version: str
    data_bytes: int
    data_crc32: str
    record: dict[str, Any]


def pack(arrays: dict[str, NDArray]) -> list[bytes | memoryview]:
    """Pieces of a safetensors file, in order.

    Written here, not by ``safetensors.numpy.save``, because that holds the interpreter lock while it copies everything
    (12 ms for 20 MB) and a step would wait for it. The pieces look at the arrays' own memory where that is contiguous.

    Raises
    ------
    ValueError : an array of a type that the format does not have, or one named ``__metadata__``.
    """
    header: dict[str, Any] = {}
    pieces: list[bytes | memoryview] = []
    offset = 0
    for name, array in sorted(arrays.items(), key=lambda item: (-item[1].dtype.itemsize, item[0])):  # keeps alignment
        dtype = _DTYPES.get(array.dtype.str[1:])
        if dtype is None:
            raise ValueError(
                f"array {name!r} of type {array.dtype}; allowed are bool, int8 to uint64, float16 to float64"
            )
        if name == "__metadata__":
            raise ValueError("array '__metadata__': the name is taken by the file format")
        array = np.asarray(array, array.dtype.newbyteorder("<"), order="C")
        header[name] = {"dtype": dtype, "shape": array.shape, "data_offsets": (offset, offset + array.nbytes)}
        pieces.append(array.reshape(-1).view(np.uint8).data)
        offset += array.nbytes
    head = msgspec.json.encode(header)
    head += b" " * (-len(head) % 8)
    if offset + len(head) + 8 > MAX_DATA_BYTES:
        raise ValueError(f"arrays of {offset} bytes; at most {MAX_DATA_BYTES}")
    return [len(head).to_bytes(8, "little"), head, *pieces]


def crc32(pieces: list[bytes | memoryview]) -> str:
    """CRC-32 of the pieces one after another, as eight hexadecimal digits."""
    crc = 0
    for piece in pieces:
        crc = zlib.crc32(piece, crc)
    return f"{crc:08x}"


def seal(manifest: Manifest) -> bytes:
    """Bytes of the JSON file; ValueError where the record cannot be told in JSON."""
    try:
        body = msgspec.json.encode(manifest)[:-1]
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise ValueError(f"record cannot be written as JSON: {error}") from error
    if len(body) > MAX_JSON_BYTES - 32:
        raise ValueError(f"record of {len(body)} bytes; at most {MAX_JSON_BYTES - 32}")
    return _with_sum(body)


def _with_sum(body: bytes) -> bytes:
    return body + b',"crc32":"%s"}\n' % crc32([body]).encode()


def unseal(text: bytes) -> Manifest:
    """What `seal` was given; DamagedError where a bit is off."""
    body, _, _ = text.rpartition(b',"crc32":"')
    if text != _with_sum(body):
        raise DamagedError("the JSON file's CRC-32 does not match")
    try:
        version = msgspec.json.decode(text, type=_Version).format
        if version != FORMAT:  # whole, but another version's: not to be set aside
            raise CheckpointError(f"checkpoint format {version}; this version reads {FORMAT}")
        return msgspec.json.decode(text, type=Manifest)
    except (msgspec.DecodeError, msgspec.ValidationError, UnicodeDecodeError) as error:
        raise DamagedError(f"the JSON file is not a checkpoint's: {error}") from error


def read_manifest(path: Path) -> Manifest:
    """Read and check the JSON file; DamagedError or OSError."""
    return unseal(_read(path, None, MAX_JSON_BYTES))


def read_arrays(path: Path, manifest: Manifest) -> dict[str, NDArray]:
    """Read and check the arrays' file that `manifest` names; DamagedError or OSError."""
    try:
        data = _read(path, manifest.data_bytes, MAX_DATA_BYTES)
    except FileNotFoundError:
        raise DamagedError(f"{path.name} is missing") from None
    if crc32([data]) != manifest.data_crc32:
        raise DamagedError(f"{path.name}: CRC-32 is {crc32([data])}, {manifest.data_crc32} was written")
    try:
        arrays: dict[str, NDArray] = load(data)
    except (SafetensorError, ValueError, KeyError) as error:
        raise DamagedError(f"{path.name}: {error}") from error
    return arrays


def _read(path: Path, expected: int | None, limit: int) -> bytes:
    """Whole file; its size is checked before memory is taken."""
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        if size > limit:
            raise DamagedError(f"{path.name}: {size} bytes; at most {limit}")
        if expected is not None and size != expected:
            raise DamagedError(f"{path.name}: {size} bytes, {expected} were written")
        return file.read(size)


def describe(path: Path | str) -> dict[str, Any]:
    """What a checkpoint holds; nothing is changed on disk.

    Parameters
    ----------
    path : either file of a pair (also one set aside), or a checkpoint directory, which stands for its newest.

    Raises
    ------
    CheckpointError : there is no such checkpoint.
    """
    path = Path(path)
    if path.is_dir():
        names = [p.stem for p in path.iterdir() if p.suffix == JSON and NAME.fullmatch(p.stem)]
        if not names:
            raise CheckpointError(f"{path}: no checkpoint")
        path = path / (max(names, key=counter) + JSON)
    aside = DAMAGED if path.suffix == DAMAGED else ""
    whole = path.with_name(path.name.removesuffix(aside))
    if whole.suffix not in (DATA, JSON) or not path.exists():
        raise CheckpointError(f"{path}: no checkpoint; allowed are its {JSON} or {DATA} file, or their directory")
    pair = [path.with_name(whole.stem + suffix + aside) for suffix in (JSON, DATA)]
    told: dict[str, Any] = {
        "name": whole.stem, "created": None, "version": None, "verified": False, "reason": "",
        "bytes": sum(p.stat().st_size for p in pair if p.exists()), "streams": {}, "arrays": {},
    }  # fmt: skip
    try:
        manifest = read_manifest(pair[0])
        told |= {"name": manifest.name, "created": manifest.created, "version": manifest.version}
        streams = msgspec.convert(manifest.record.get("streams", {}), dict[str, dict[str, Any]])
        shown = ("classes", "epoch", "watermark_us")
        told["streams"] = {name: {k: stream.get(k) for k in shown} for name, stream in streams.items()}
        arrays = read_arrays(pair[1], manifest)
        told["arrays"] = {n: {"dtype": str(a.dtype), "shape": list(a.shape)} for n, a in sorted(arrays.items())}
        told["verified"] = True
    except FileNotFoundError as error:
        told["reason"] = f"{Path(str(error.filename)).name} is missing"
    except (DamagedError, OSError, msgspec.ValidationError) as error:
        told["reason"] = str(error)
    return told


def counter(name: str) -> int:
    """The number in front of a checkpoint's name, which orders them; 0 for any other name."""
    match = NAME.match(name)
    return int(match[1]) if match else 0
