"""Compressed sizes of arrays, as in an archive or an app bundle."""

import zlib

import numpy as np

_CHUNK = 1 << 22


def deflated_bytes(array: np.ndarray) -> int:
    """Return the size in bytes after deflate, as in zip and gzip, at their default level."""
    packer, data = zlib.compressobj(), np.ascontiguousarray(array).reshape(-1).view(np.uint8)
    pieces = (packer.compress(data[i : i + _CHUNK].tobytes()) for i in range(0, len(data), _CHUNK))
    return sum(map(len, pieces)) + len(packer.flush())
