"""Arrays and weights from files that may be damaged or of something else: read without running code from them."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from caloforge.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor, nn

MOST_BYTES = 2**34
"""Of one array: a header that says more is damaged, and would fill the memory."""


def read_arrays(path: Path, names: Iterable[str]) -> dict[str, NDArray[Any]]:
    """Return some arrays of an ``.npz`` file.

    Raises:
        InputError: it cannot be read, or lacks one of them.
    """
    try:
        with np.load(path, allow_pickle=False) as arrays:
            if not isinstance(arrays, np.lib.npyio.NpzFile):
                raise InputError(f"{path}: expected an .npz file of several arrays, found one array")
            stored = arrays.zip.infolist() if arrays.zip is not None else []
            sizes = {one.filename.removesuffix(".npy"): one.file_size for one in stored}
            for name in names:
                if sizes.get(name, 0) > MOST_BYTES:
                    raise InputError(f"{path}: {name}: {sizes[name]} bytes, which is absurd; the file is damaged")
            return {name: arrays[name] for name in names}
    except KeyError as error:
        raise InputError(f"{path}: has no array {error}; make it again with this version") from None
    except InputError:
        raise
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error, NotImplementedError, MemoryError) as error:
        raise InputError(f"{path}: not a file of arrays, or damaged ({error}); make it again") from None


def read_weights(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a ``.safetensors`` file, on the CPU.

    Raises:
        InputError: it cannot be read.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError, KeyError, TypeError, AttributeError, MemoryError) as error:
        raise InputError(f"{path}: not a file of weights, or damaged ({error}); copy it again") from None


def fill(module: nn.Module, state: dict[str, Tensor], *, where: Path, strict: bool = True) -> None:
    """Put weights into a module.

    Args:
        module: what gets them.
        state: parameters and buffers by name.
        where: the file they come from, for the message.
        strict: whether all names must be there, and no others.

    Raises:
        InputError: a name, a shape or a kind of numbers does not fit.
    """
    own = module.state_dict()
    lacking = sorted(own.keys() - state.keys()) if strict else []
    unknown = sorted(state.keys() - own.keys())
    for names, text in ((lacking, "has no"), (unknown, "has an unknown")):
        if names:
            raise InputError(f"{where}: {text} {names[0]!r}; it is of another generator or version")
    for name, value in state.items():
        if value.shape != own[name].shape:
            shapes = f"has shape {tuple(value.shape)}, expected {tuple(own[name].shape)}"
            raise InputError(f"{where}: {name} {shapes}; it is of another generator or version")
        if (value.is_floating_point(), value.is_complex()) != (own[name].is_floating_point(), own[name].is_complex()):
            kinds = f"holds {value.dtype}, expected {own[name].dtype}".replace("torch.", "")
            raise InputError(f"{where}: {name} {kinds}; it is of another generator or version")
    module.load_state_dict(state, strict=strict)
