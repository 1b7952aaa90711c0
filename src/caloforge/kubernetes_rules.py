"""What Kubernetes takes as a name, a label, a path, an amount or an image: types that settings are made of.

The API server refuses what breaks these rules only when an object is made, hours into a run. They are those of
``k8s.io/apimachinery/pkg/util/validation`` and of ``distribution/reference``. Where newer clusters are laxer (names of
environment variables since 1.34), the older rule holds.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal
from pathlib import PurePosixPath
from typing import Annotated

from pydantic import AfterValidator
from pydantic_core import PydanticCustomError

_LABEL = r"[a-z0-9](?:[-a-z0-9]*[a-z0-9])?"
_SUBDOMAIN = rf"{_LABEL}(?:\.{_LABEL})*"
_NAME = r"[A-Za-z0-9](?:[-A-Za-z0-9_.]*[A-Za-z0-9])?"

_HOST = r"(?:[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?)(?:\.[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?)*(?::[0-9]+)?"
_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_IMAGE = re.compile(
    rf"(?P<name>(?:{_HOST}/)?{_COMPONENT}(?:/{_COMPONENT})*)(?::[A-Za-z0-9_][A-Za-z0-9_.-]{{0,127}})?"
    r"(?:@sha256:[0-9a-f]{64})?"
)

MAX_ANNOTATION_BYTES = 256 * 1024
"""Of all keys and values of an object's annotations together."""

LEAST_MEMORY = 2**24
"""Bytes. No process of this package starts in less: ``memory: 8`` is 8 bytes, and 8G was meant."""

DECIMAL_UNITS = {unit: Decimal(1000) ** power for power, unit in enumerate(("m", "", "k", "M", "G", "T", "P", "E"), -1)}
BINARY_UNITS = {unit: Decimal(1024) ** power for power, unit in enumerate(("Ki", "Mi", "Gi", "Ti", "Pi", "Ei"), 1)}
_UNITS = {**DECIMAL_UNITS, **BINARY_UNITS}
_QUANTITY = re.compile(rf"([0-9]{{1,18}}(?:\.[0-9]{{1,9}})?)({'|'.join(sorted(_UNITS, key=len, reverse=True))})")


def _wrong(text: str) -> PydanticCustomError:
    # A plain ValueError's text would get pydantic's own prefix.
    return PydanticCustomError("kubernetes", "{text}", {"text": text})


def _matching(pattern: str, longest: int, rule: str) -> Callable[[str], str]:
    whole = re.compile(pattern)

    def check(value: str) -> str:
        if len(value) > longest or not whole.fullmatch(value):
            raise _wrong(f"{value[:80]!r} is not what Kubernetes takes: {rule}")
        return value

    return check


def _or_empty(check: Callable[[str], str]) -> AfterValidator:
    return AfterValidator(lambda value: check(value) if value else value)


_label = _matching(_LABEL, 63, "at most 63 lower-case letters and digits, dashes within")
_subdomain = _matching(_SUBDOMAIN, 253, "lower-case letters and digits, dashes and dots within")

NamespaceOrNone = Annotated[str, _or_empty(_label)]
"""Name of a namespace (DNS-1123 label), or empty."""

ObjectName = Annotated[str, AfterValidator(_subdomain)]
"""Name of a Secret, a claim, an account or a runtime (DNS-1123 subdomain)."""

ObjectNameOrNone = Annotated[str, _or_empty(_subdomain)]
"""Such a name, or empty."""

SecretEntry = Annotated[
    str, AfterValidator(_matching(r"(?!\.$|\.\.)[-._A-Za-z0-9]+", 253, "letters, digits, dashes, dots and underscores"))
]
"""Name of an entry of a Secret."""

EnvironmentName = Annotated[
    str, AfterValidator(_matching(r"[A-Za-z_][A-Za-z0-9_]*", 253, "letters, digits and underscores, no digit first"))
]
"""Name of an environment variable."""

LabelValue = Annotated[
    str, _or_empty(_matching(_NAME, 63, "at most 63 letters and digits, dashes, dots and underscores within"))
]
"""Value of a label, of a node's label or of a taint."""


def _qualified(value: str, *, prefixed: bool = False) -> str:
    prefix, slash, name = value.rpartition("/")
    well = len(name) <= 63 and re.fullmatch(_NAME, name)
    if slash or prefixed:
        well = well and len(prefix) <= 253 and re.fullmatch(_SUBDOMAIN, prefix)
    if not well:
        before = "DOMAIN/ and" if prefixed else "DOMAIN/ or nothing, then"
        rule = f"{before} at most 63 letters and digits, dashes, dots and underscores within"
        raise _wrong(f"{value[:80]!r} is not what Kubernetes takes: {rule}")
    return value


QualifiedName = Annotated[str, AfterValidator(_qualified)]
"""Key of a label, of a node's label or of a taint."""


def _annotation_key(value: str) -> str:
    _qualified(value.lower())
    return value


AnnotationKey = Annotated[str, AfterValidator(_annotation_key)]
"""Key of an annotation: as of a label, but the prefix may have capitals."""

ResourceName = Annotated[str, AfterValidator(lambda value: _qualified(value, prefixed=True))]
"""Name of an extended resource, e.g. ``nvidia.com/gpu``."""


def _mount_path(value: str) -> str:
    path = PurePosixPath(value)
    if not value.startswith("/") or ":" in value or not value.isprintable() or ".." in path.parts:
        raise _wrong(f"{value[:80]!r}: a mount path is absolute and has no ':' and no '..'")
    if path == path.parent:
        raise _wrong(f"{value!r}: a mount path is a folder below /, whose content it would hide")
    return value


MountPath = Annotated[str, AfterValidator(_mount_path)]
"""Folder of a container where a volume is found."""


def amount(quantity: str) -> Decimal:
    """Return the number of cores or bytes that an amount means.

    Raises:
        ValueError: it is none.
    """
    found = _QUANTITY.fullmatch(quantity)
    if found is None:
        msg = f"{quantity!r} is not an amount"
        raise ValueError(msg)
    return Decimal(found[1]) * _UNITS[found[2]]


def _quantity(value: str) -> str:
    try:
        number = amount(value)
    except ValueError:
        rule = "a number, then m, k, M, G, T, P, E, Ki, Mi, Gi, Ti, Pi, Ei or nothing, e.g. 500m, 2, 16Gi"
        raise _wrong(f"{value[:80]!r} is no amount: {rule}") from None
    if not 0 < number < 2**63:
        raise _wrong(f"{value!r}: an amount is positive, and less than 2^63")
    return value


Quantity = Annotated[str, AfterValidator(_quantity)]
"""An amount of cores or bytes, as Kubernetes writes it: 500m, 2, 8G, 16Gi."""

QuantityOrNone = Annotated[str, _or_empty(_quantity)]
"""Such an amount, or empty."""


def _bytes(value: str) -> str:
    _quantity(value)
    if amount(value) < LEAST_MEMORY:
        raise _wrong(f"{value!r} are {amount(value):f} bytes, in which nothing starts; say e.g. {value.rstrip('m')}G")
    return value


Bytes = Annotated[str, AfterValidator(_bytes)]
"""An amount of memory."""

BytesOrNone = Annotated[str, _or_empty(_bytes)]
"""An amount of memory, or empty."""


def _image(value: str) -> str:
    found = _IMAGE.fullmatch(value) if len(value) < 1024 else None
    if found is None or len(found["name"]) > 255:
        raise _wrong(f"{value[:80]!r} is no container image: [REGISTRY/]NAME:TAG or [REGISTRY/]NAME@sha256:DIGEST")
    return value


Image = Annotated[str, AfterValidator(_image)]
"""Reference of a container image."""


def check_annotations(annotations: Mapping[str, str]) -> None:
    """Refuse annotations that are too large together.

    Raises:
        PydanticCustomError: with their size.
    """
    size = sum(len(key.encode()) + len(value.encode()) for key, value in annotations.items())
    if size > MAX_ANNOTATION_BYTES:
        raise _wrong(f"annotations: {size} bytes; an object holds {MAX_ANNOTATION_BYTES} at most")


def check_mounts(mounts: Iterable[tuple[str, str]]) -> None:
    """Refuse two volumes at one path.

    Args:
        mounts: what is mounted, and where.

    Raises:
        PydanticCustomError: naming both.
    """
    taken: dict[PurePosixPath, str] = {}
    for what, path in mounts:
        if (other := taken.setdefault(PurePosixPath(path), what)) != what:
            raise _wrong(f"{what} and {other} are both mounted at {path}; a path holds one volume")
