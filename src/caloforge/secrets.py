"""What is a secret, by its name or by what it looks like: refused in settings, masked in everything that is written.

Whoever may see a pipeline, a log, a report or a file of showers may read all of it, and the words of a command are
in the list of processes and in the shell's history. So secrets come from files, from the environment and, on a
cluster, from Secrets; this is the only place that knows them.

Scanners of source code (detect-secrets, gitleaks) guess by entropy and read files; here a false alarm would refuse a
good setting, and what counts is what people really put into these places.
"""

from __future__ import annotations

import base64
import os
import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

from caloforge.errors import InputError

MASK = "***"

BY_REFERENCE = "use secret_env, e.g. {secret: caloforge, key: token}"
"""What to do in settings."""

AUTHORIZATION = "CALOFORGE_AUTHORIZATION"
"""Environment variable with the Authorization header of a query to a server."""

_WORDS = frozenset(
    [
        "secret",
        "secrets",
        "password",
        "passwords",
        "passwd",
        "passphrase",
        "passcode",
        "pass",
        "pwd",
        "pw",
        "psw",
        "token",
        "tokens",
        "key",
        "keys",
        "credential",
        "credentials",
        "creds",
        "cookie",
        "cookies",
        "authorization",
        "auth",
        "webhook",
        "webhooks",
        "signature",
        "sig",
        "sas",
        "bearer",
        "jwt",
        "pat",
    ]
)
_ENDS = re.compile(
    r"(password|passwd|passphrase|secret|token|authorization|cookies?|credentials?"
    r"|(bind|root|user|admin|db)pw|passkey"
    r"|(?<!by)(?<!com)(?<!band)(?<!low)(?<!high)pass"
    r"|(api|access|secret|private|ssh|account|shared|encryption|signing|auth|license|master)key(id)?)$"
)
"""Names without a line between their words: PGPASS, authToken, SecretKey."""

_PLACES = frozenset(
    [
        "file",
        "files",
        "path",
        "paths",
        "dir",
        "folder",
        "uri",
        "url",
        "endpoint",
        "name",
        "type",
        "sock",
        "socket",
        "socks",
        "public",
        "mode",
        "ttl",
        "seconds",
        "expiry",
        "parallelism",
        "method",
        "mechanism",
        "provider",
        "command",
        "issuer",
        "audience",
        "length",
        "count",
        "size",
        "limit",
        "limits",
        "budget",
        "prefix",
        "suffix",
        "format",
        "column",
        "columns",
        "field",
        "fields",
        "domain",
        "region",
        "scheme",
        "algorithm",
        "version",
        "enabled",
        "required",
        "timeout",
        "rotation",
        "through",
        "ratio",
    ]
)
"""A name that ends so says where a secret is, or something about it: AWS_WEB_IDENTITY_TOKEN_FILE."""

_KEYS_OF_DATA = frozenset(
    [
        "sort", "sorting", "order", "partition", "partitioning", "shard", "primary", "foreign", "unique", "composite",
        "group", "grouping", "join", "merge", "index", "lookup", "cache", "state", "dict", "map", "mapping", "dataset",
        "data", "feature", "column", "row", "sample", "batch", "shower", "showers", "energy", "layer", "hdf5", "h5",
        "config", "setting", "settings", "metric", "label", "annotation", "node", "topology", "routing", "message",
        "n", "num", "number", "max", "min", "first", "last",
    ]
)  # fmt: skip
"""A ``key`` after one of these is a name among data: SORT_KEY."""

_PASSES = frozenset(
    [
        "n", "num", "number", "max", "min", "first", "second", "third", "last", "one", "two", "single", "multi",
        "forward", "backward", "training", "warmup", "optimizer", "compiler", "filter", "by", "com", "band", "low",
        "high",
    ]
)  # fmt: skip
"""A ``pass`` after one of these lets nobody in: N_PASS."""

_NO_SECRETS = frozenset({"PWD", "OLDPWD", "GOOGLE_APPLICATION_CREDENTIALS"})
_HARMLESS = re.compile(r"(?:true|false|yes|no|on|off|none|null|0|1|\.\.\.|\*+|<[^<>]*>|\$\{?\w+\}?|)", re.IGNORECASE)
"""Values that tell nobody anything, whatever they are called."""

_QUERY = re.compile(
    r"x-(amz|goog|ms|oss)-(signature|credential|security-token|.*token|.*key)|awsaccesskeyid|googleaccessid|ossaccesskeyid"
    r"|sig|signature|policy|key-pair-id|code|access_?token|auth(orization)?|apikey",
    re.IGNORECASE,
)
"""Names in the query of an address that hold a secret and are not secret by their words."""

_LOOKS = (
    ("a private key", re.compile(r"-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----.*?(?:-----END [A-Z0-9 ]*PRIVATE KEY-----|\Z)", re.DOTALL)),
    ("a signed token (JWT)", re.compile(r"\beyJ[\w-]{6,}\.[\w-]{6,}(?:\.[\w-]*)?")),
    ("a key of AWS", re.compile(r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b")),
    (
        "a token",
        re.compile(
            r"\b(?:gh[opsur]_\w{20,}|github_pat_\w{20,}|glpat-[\w-]{16,}|hf_[A-Za-z0-9]{20,}|xox[a-z]-[\w-]{10,}|xapp-[\w-]{10,}"
            r"|sk-[\w-]{20,}|sk_live_\w{16,}|AIza[\w-]{30,}|ya29\.[\w-]{10,}|npm_\w{30,}|pypi-[\w-]{30,}|dckr_pat_[\w-]{16,}|sha256~[\w-]{30,}"
            r"|hv[sb]\.[\w-]{20,}|dapi[0-9a-f]{32}|SG\.[\w-]{16,}\.[\w-]{16,}|AGE-SECRET-KEY-1\w+)"
        ),
    ),
    (
        "the address of a webhook",
        re.compile(
            r"https?://(?:hooks\.slack(?:-gov)?\.com/|(?:\w+\.)?discord(?:app)?\.com/api/webhooks/|[\w.-]*webhook\.office\.com/"
            r"|chat\.googleapis\.com/v1/spaces/|[\w.-]+/hooks/\w{20,})[^\s'\"<>]*"
        ),
    ),
    ("a header that lets in", re.compile(
        r"(?P<head>\b(?:Proxy-)?[Aa]uthorization['\"]?\s*[:=]\s*['\"]?(?:(?:Bearer|Basic|Digest|Negotiate) +)?+)(?!\*\*\*)[^\s'\"]+"
        r"|(?P<cookie>\b(?:Set-)?[Cc]ookie['\"]?\s*:\s*['\"]?)[^\s=;'\"]+=[^\n'\"]*"
        r"|(?P<bearer>\b[Bb]earer +)(?=[\w.~+/=-]*[\d.=_~+/-])[\w.~+/=-]{6,}"
        r"|(?P<basic>\bBasic +)(?=\S*[\d=+/])[A-Za-z0-9+/]{6,}={0,2}"
    )),
    ("an address with a password", re.compile(
        r"(?<![\w/.@%+~-])(?!\d+:)[\w.+%~-]++:[^\s@/'\"]{1,500}+@(?!sha\d+:)[\w.-]+"
        r"|(?P<slashes>(?:\\{0,4}+/){2})[^\s/@'\"\\\[\]*]*:[^\s@/'\"\\]+(?=@[\w.\[-])"  # //me:word@host
    )),
    ("a password", re.compile(
        r"(?P<curl>(?<!\S)(?:-[uU] ?|--(?:proxy-)?user[ =])['\"]?(?!\d+:\d+\b)[^\s:'\"]+:)(?!\*\*\*)[^\s'\"]+"
        r"|(?P<sshpass>\bsshpass +-p ?['\"]?)(?!\*\*\*)[^\s'\"]+"
        r"|(?P<mysql>\bmysql\w*\b[^\n]{0,200}? -p)(?![\s*])[^\s'\"]+"
        r"|(?P<tag><[\w:.-]*(?i:password|passwd|passphrase|secret|token|apikey)>)(?!\*\*\*)[^<>]+(?=</)"
        r"|(?P<said>\b(?i:password|passwd|passphrase|passcode|pwd)(?: is| was)? +)(?=[^\s'\"]*\d)(?=[^\s'\"]*[A-Za-z])(?=[^\s'\"]{6})[^\s'\"]+"
    )),
)  # fmt: skip

_ASSIGNED = re.compile(
    r"(?P<name>(?<![\w.-])[A-Za-z_][\w.-]*)(?P<is>\s?=\s?)(?P<value>\"[^\"]*\"|'[^']*'|[^\s,;&'\"<>()\[\]{}#]+)"
)
_QUOTED = re.compile(
    r"(?P<quote>['\"])(?P<name>[\w./-]+)(?P=quote)(?P<is>\s*:\s*)(?P<value>\"(?:[^\"\\]|\\.)*\"|'(?:[^'\\]|\\.)*')"
)
_LONG_OPTION = re.compile(
    r"(?P<name>(?<![\w-])--[a-z][\w-]*+)(?P<is> +|=|['\"], *)(?P<value>\"[^\"]*\"|'[^']*'|[^\s'\"-][^\s'\"]*)"
)
_TOLD = re.compile(
    r"(?P<name>(?<![\w./:-])[\w.-]++)(?P<is> ?: *+)(?=(?P<value>\"[^\"]*\"|'[^']*'|[^\s,;&'\"<>()\[\]{}#]+))"
)
"""``password: WORD``, as YAML has it, and sentences do: there are sentences, too, that say what is wrong with one."""

_ENTRY = re.compile(
    r"name['\"]?\s*:\s*['\"]?(?P<name>[\w.-]+)['\"]?(?:\s|\\n|,)*['\"]?value['\"]?(?P<is>\s*:\s*)"
    r"(?P<value>\"(?:[^\"\\]|\\.)*\"|'(?:[^'\\]|\\.)*'|[^\s,'\"{}]+)"
)
"""A variable of a container: its name stands beside ``name``."""

_PASSWORD = re.compile(r"(?:password|passwd|passphrase|passcode|pwd|psw)s?\d*$", re.IGNORECASE)
_SAYS = frozenset(
    [
        "a",
        "an",
        "and",
        "any",
        "are",
        "as",
        "at",
        "be",
        "by",
        "cannot",
        "does",
        "empty",
        "expected",
        "for",
        "from",
        "has",
        "in",
        "is",
        "invalid",
        "it",
        "missing",
        "must",
        "no",
        "none",
        "not",
        "of",
        "on",
        "or",
        "please",
        "required",
        "should",
        "the",
        "to",
        "unknown",
        "wrong",
        "was",
        "with",
    ]
)
"""What a sentence goes on with behind the name of a secret and a colon."""

_ESCAPED = re.compile(r'\\{1,4}"(?P<name>[\w./-]+)\\{1,4}"(?P<is>\s*:\s*)(?P<value>\\{1,4}"[^"\\]*\\{1,4}")')
_NAMED = (_QUOTED, _ESCAPED, _ENTRY, _ASSIGNED, _LONG_OPTION)
_ADDRESS = re.compile(r":(?:\\{0,4}+/){2}|(?<=[a-zA-Z0-9+.-]):/(?=[^\s/:@]*:[^\s/@]+@)")
"""Also as JSON may have it, and as a path, which has one slash."""

_SHORTEST = 6
"""Of a value that is masked wherever it stands: shorter ones are words."""

_known: set[str] = set()


def is_secret_name(name: str) -> bool:
    """Return whether a variable, header or key of this name holds a secret, and not the place of one."""
    return _is_secret_name(name)


@lru_cache(maxsize=4096)
def _is_secret_name(name: str) -> bool:
    name = name.rpartition("/")[2]  # of an annotation
    if name in _NO_SECRETS:
        return False
    words = [word for word in re.split(r"[^a-z0-9]+", re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()) if word]
    if not words or "public" in words:
        return False
    words = [word.rstrip("0123456789") or word for word in words]  # PASSWORD2
    webhook = any(word.startswith("webhook") for word in words)
    if words[-1] in _PLACES and not webhook:
        return False
    if words[-1] in ("key", "keys", "pass") and words[-2:-1] and not any(word in _WORDS for word in words[:-1]):
        return words[-2] not in (_PASSES if words[-1] == "pass" else _KEYS_OF_DATA)
    return webhook or any(word in _WORDS or _ENDS.search(word) for word in words)


def secret_in(text: str) -> str:
    """Return what kind of secret a text holds, e.g. ``an address with a password``; empty: none that can be seen."""
    for match in _ADDRESS.finditer(text):
        if _user_information(text[match.end() :].split(maxsplit=1)[0] if text[match.end() :].strip() else ""):
            return "an address with a password"
    if _masked_queries(text) != text:
        return "an address with a signature or token"
    for kind, pattern in _LOOKS:
        if pattern.search(text):
            return kind
    for pattern in (*_NAMED, _TOLD):
        for match in pattern.finditer(text):
            if _gives_away(match["name"].lstrip("-"), match["value"], told=pattern is _TOLD):
                return f"a secret, {match['name']}"
    return ""


def find_secrets(values: Mapping[str, Any], where: str = "") -> Iterator[str]:
    """Yield what is secret in nested settings, as sentences that name the key and never the value."""
    for key, value in values.items():
        place = f"{where}{key}"
        if kind := secret_in(str(key)):
            yield f"{where or 'a key'} holds {kind}"
        yield from _in_value(value, place)


def check_names(where: str, values: Mapping[str, str]) -> Iterator[str]:
    """Yield which entries of a map that people fill, e.g. ``env``, are secrets by their names."""
    for name, value in values.items():
        if name.startswith("vault.hashicorp.com/"):  # these name secrets and do not hold them
            continue
        if is_secret_name(name) and not _HARMLESS.fullmatch(str(value)) and not _counts(name, str(value)):
            yield f"{where}: {name!r} looks like a secret"


def without_secrets(address: str) -> str:
    """Return an address as it may be shown: without a password, and without a signature."""
    scheme, separator, rest = address.partition("://")
    if not separator:
        return masked(address)
    rest = rest[_user_information(rest) :]
    if scheme.lower() not in ("s3", "minio"):  # there a key may hold any character
        rest = re.split(r"[?#]", rest, maxsplit=1)[0]
    return masked(f"{scheme.lower()}://{rest}")


def has_password(address: str) -> bool:
    """Return whether an address holds a user or password."""
    return "://" in address and _user_information(address.partition("://")[2]) > 0


def masked(text: str) -> str:
    """Return a text with ``***`` in place of every secret: of this process' environment and files, or by its looks."""
    for value in _values():
        if value in text:
            text = text.replace(value, MASK)
    if _ADDRESS.search(text):
        text = _masked_queries(_masked_users(text))
    for _, pattern in _LOOKS:
        text = pattern.sub(_look, text)
    for pattern in _NAMED:
        text = pattern.sub(_value, text)
    return _without_told(text)


def remember(secret: str) -> None:
    """Have a secret masked from now on in everything that this process says."""
    if len(secret) >= _SHORTEST:
        _known.update(_forms(secret))


def remember_address(address: str) -> None:
    """Have the password of an address masked, which libraries may show apart from the address."""
    _known.update(_forms_in_address(address))


def read_secret(path: Path, *, what: str = "token") -> str:
    """Return the secret that a file holds; it is masked from then on.

    Args:
        path: text with the secret and nothing else.
        what: is in it, for the messages. A token has no spaces.

    Raises:
        InputError: it cannot be read, is empty, or holds what cannot be sent in a header.
    """
    return checked_secret(read_text(path), where=str(path), what=what)


def read_text(path: Path) -> str:
    """Return the text of a file that holds secrets.

    Raises:
        InputError: it cannot be read or is empty.
    """
    try:
        text = path.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None
    except UnicodeDecodeError:
        raise InputError(f"{path}: not a text file") from None
    if not text:
        raise InputError(f"{path}: is empty")
    return text


def checked_secret(text: str, *, where: str, what: str = "token") -> str:
    """Return a secret that can be sent in a header; it is masked from then on.

    Raises:
        InputError: it cannot; the message does not show it.
    """
    for line in (text, *text.splitlines()):
        remember(line.strip())
    if not re.fullmatch(r"[\x21-\x7e]+" if what == "token" else r"[\x20-\x7e]+", text):
        rule = "ASCII without spaces and line breaks" if what == "token" else "one line of ASCII"
        raise InputError(f"{where}: not a {what}: expected {rule}")
    return text


def _in_value(value: Any, place: str) -> Iterator[str]:
    if isinstance(value, Mapping):
        yield from find_secrets(value, f"{place}.")
    elif isinstance(value, list | tuple):
        for number, one in enumerate(value):
            yield from _in_value(one, f"{place}.{number}")
    elif isinstance(value, str) and (kind := secret_in(value)):
        yield f"{place} holds {kind}"


def _user_information(rest: str) -> int:
    """Return how many of the characters behind ``://`` are user and password, with the ``@``.

    Passwords may hold ``/``, ``?`` and ``#`` although they should not: the keys of object stores do.
    """
    head = re.split(r"[/?#]", rest, maxsplit=1)[0]
    _, at, host = head.rpartition("@")
    name = head if not at else head[: -len(host) - 1]
    if ":" in name and not (not at and re.fullmatch(r"(\[[^\]]*\]|[^:]*)(:\d*)?", head)):
        return rest.rfind("@") + 1  # a password: whatever stands before the last @ may be part of it
    return len(head) - len(host) if at else 0


def _masked_users(text: str) -> str:
    parts = re.split(rf"({_ADDRESS.pattern})", text)
    for number in range(2, len(parts), 2):  # what is between is the slashes
        run = re.match(r"\S*", parts[number])[0]  # type: ignore[index]
        if length := _user_information(run):
            parts[number] = f"{MASK}@{parts[number][length:]}"
    return "".join(parts)


def _masked_queries(text: str) -> str:
    if not _ADDRESS.search(text):
        return text
    pattern = r"([?&;#])([\w.%~-]+)=([^\s&#;'\"<>)\]]+)"

    def shown(match: re.Match[str]) -> str:
        name = unquote(match[2])
        secret = _QUERY.fullmatch(name) or is_secret_name(name) or name.lower() == "key"
        return f"{match[1]}{match[2]}={MASK}" if secret and not _HARMLESS.fullmatch(match[3]) else match[0]

    return re.sub(pattern, shown, text)


def _without_told(text: str) -> str:
    """Cover what is told; a value may be a name itself: ``OSError: password: ...``."""
    parts, end = [], 0
    for match in _TOLD.finditer(text):
        start = match.start("value")
        if start >= end and _gives_away(match["name"], match["value"], told=True):
            quote = match["value"][0] if match["value"][0] in "'\"" else ""
            parts += [text[end:start], f"{quote}{MASK}{quote}"]
            end = match.end("value")
    return "".join([*parts, text[end:]])


def _look(match: re.Match[str]) -> str:
    """Return what covers a match: all of it but the name before it."""
    return "".join(part or "" for part in match.groups()) + MASK


def _value(match: re.Match[str]) -> str:
    head, value = match[0][: match.start("value") - match.start()], match["value"]
    quote = value[0] if value[0] in "'\"" else ""
    if _gives_away(match["name"].lstrip("-"), value):
        scheme = re.match(r"(?:Bearer |Basic )?", value.strip("'\""))
        return f"{head}{quote}{scheme[0] if scheme else ''}{MASK}{quote}"
    return head + quote + match.re.sub(_value, value[1:-1]) + quote if quote else match[0]  # a text within a text


def _gives_away(name: str, value: str, *, told: bool = False) -> bool:
    """Return whether a value is a secret by its name; ``told``: it may be the beginning of a sentence instead."""
    plain = value.strip("'\"").rstrip(".,")
    if name == "key" or not is_secret_name(name) or _HARMLESS.fullmatch(plain) or _counts(name, plain):
        return False
    if not told:
        return True
    if _PASSWORD.search(name):
        return plain.lower() not in _SAYS
    if name.lower() in ("secret", "secrets") or plain.startswith(("/", "~", "./")):  # of Kubernetes; and a place
        return False
    return len(plain) >= _SHORTEST and re.search(r"[a-z][A-Z]|[^\d,.]\d|\d[^\d,.]", plain) is not None


def _counts(name: str, value: str) -> bool:
    """Whether a value is a number of something that has the name of a secret: MAX_TOKENS, of a transformer."""
    return re.search(r"tokens$|(^|_)num_|(^|_)n_", name, re.IGNORECASE) is not None and value.isdecimal()


def _values() -> list[str]:
    """Return the values that are masked wherever they stand, the longest first."""
    found = set(_known)
    for name, value in os.environ.items():
        if len(value) >= _SHORTEST and is_secret_name(name):
            found.update(_forms(value))
        if has_password(value):
            found.update(_forms_in_address(value))
    return sorted(found, key=len, reverse=True)


@lru_cache(maxsize=256)
def _forms_in_address(address: str) -> tuple[str, ...]:
    _, _, rest = address.partition("://")
    if not (length := _user_information(rest)):
        return ()
    user, colon, password = (unquote(part) for part in rest[: length - 1].partition(":"))
    basic = base64.b64encode(f"{user}:{password}".encode()).decode()
    return (*_forms(password if colon else user), *_forms(rest[: length - 1].rpartition(":")[2]), basic)


@lru_cache(maxsize=256)
def _forms(secret: str) -> tuple[str, ...]:
    """Return a secret as it stands in texts: as it is, in an address, and as Python shows it."""
    plain = secret.strip()
    forms = {plain, quote(plain, safe=""), repr(plain)[1:-1], *plain.split()[1:2]}
    return tuple(one for one in forms if len(one) >= _SHORTEST)
