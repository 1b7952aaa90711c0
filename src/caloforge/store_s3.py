"""Files of object stores that speak S3: s3:// and, as Kubeflow Pipelines writes it, minio://."""

from __future__ import annotations

import os
import re
from collections.abc import Generator
from typing import Any
from urllib.parse import urlsplit

from caloforge.errors import InputError
from caloforge.network import ca_file, heed_no_proxy
from caloforge.patience import PASSING
from caloforge.secrets import has_password, remember_address, without_secrets
from caloforge.store import BLOCK_BYTES, CONNECT_SECONDS, READ_SECONDS, Away, Found, explained

KEY, SECRET = "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"

_QUERY = re.compile(r"\?[A-Za-z]\w*=[^/]*$")
"""What Kubeflow Pipelines may put behind an address: region, endpoint; the environment says these."""

_PASSING = {"SlowDown", "RequestTimeout", "InternalError", "ServiceUnavailable", "RequestLimitExceeded", "Throttling"}
_CHANGED = {"PreconditionFailed", "412"}


class S3Store:
    """One object, or the objects below one prefix.

    Keys and endpoint are those of the environment; without keys the request is not signed, as public
    buckets want it.
    """

    def __init__(self, address: str, client: Any = None) -> None:
        self._address = _QUERY.sub("", address)
        self.shown = without_secrets(self._address)
        if has_password(self._address):
            remember_address(self._address)
            raise InputError(f"{self.shown}: keys are no part of an address; set {KEY} and {SECRET}")
        self._bucket, _, self._key = self.shown.partition("://")[2].partition("/")
        self._endpoint = _endpoint()
        heed_no_proxy(self._endpoint or "")
        if address.startswith("minio://") and self._endpoint is None:
            text = (
                f"{self.shown}: where is the store? Set AWS_ENDPOINT_URL "
                "(http://seaweedfs.kubeflow:9000 on a stock Kubeflow, http://minio-service.kubeflow:9000 before 2.16)"
            )
            raise InputError(text)
        self._client = self._connect() if client is None else client

    def look(self) -> Found:
        """Ask with HEAD; where there is no such object, ask whether objects lie below it."""
        if not self._key or self._key.endswith("/"):
            return self._folder()
        try:
            answer = self._ask("head_object", Key=self._key)
        except _Missing:
            return self._folder()
        except _Silent:  # an answer to HEAD has no body: the first byte's refusal says why
            answer = self._ask("get_object", Key=self._key, Range="bytes=0-0")
            answer["Body"].close()
            answer["ContentLength"] = int(answer["ContentRange"].rpartition("/")[2])
        size = int(answer["ContentLength"]) if "ContentLength" in answer else None
        marks = {name: str(answer[name]) for name in ("ETag", "LastModified") if answer.get(name)}
        return Found(self.shown, size, marks | ({} if size is None else {"size": str(size)}))

    def read(self, found: Found, start: int) -> tuple[int, Generator[bytes, None, None]]:
        """Go on at ``start``; an object that was replaced meanwhile counts as a broken connection."""
        options = {"Range": f"bytes={start}-"} if start else {}
        if found.marks.get("ETag"):
            options["IfMatch"] = found.marks["ETag"]
        answer = self._ask("get_object", Key=self._key, **options)
        return start if "ContentRange" in answer else 0, self._blocks(answer["Body"])

    def files(self) -> list[str]:
        """List with ListObjectsV2; what looks like a folder of its own or leads out of this one is left out."""
        prefix = self._prefix()
        found: list[tuple[str, str]] = []
        page: dict[str, Any] = {}
        while True:
            try:
                answer = self._ask("list_objects_v2", Prefix=prefix, **page)
            except _Missing:  # no such bucket
                return []
            found += [(str(one["LastModified"]), one["Key"]) for one in answer.get("Contents", [])]
            if not answer.get("IsTruncated"):
                break
            page = {"ContinuationToken": answer["NextContinuationToken"]}
        below = [key.removeprefix(prefix) for _, key in sorted(found)]
        return [path for path in below if path and not path.endswith("/") and ".." not in path.split("/")]

    def at(self, below: str) -> S3Store:
        """Return the object below this prefix."""
        return S3Store(f"{self.shown.rstrip('/')}/{below}", self._client)

    def close(self) -> None:
        """End the connections."""
        self._client.close()

    def _folder(self) -> Found:
        answer = self._ask("list_objects_v2", Prefix=self._prefix(), MaxKeys=1)
        if not answer.get("Contents"):
            raise InputError(f"{self.shown}: nothing is there")
        return Found(self.shown, None, {}, folder=True)

    def _prefix(self) -> str:
        return f"{self._key.rstrip('/')}/" if self._key.rstrip("/") else ""

    def _connect(self) -> Any:
        try:
            from botocore import UNSIGNED
            from botocore.config import Config
            from botocore.exceptions import BotoCoreError
            from botocore.session import get_session
        except ImportError:
            raise InputError(f"{self.shown}: needs a library: pip install 'caloforge[s3]'") from None
        amazon = self._endpoint is None or _is_amazon(self._endpoint)
        # botocore itself reads AWS_DEFAULT_REGION only. What is not Amazon's does not care for the name.
        region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
        try:
            session = get_session()
            signed = session.get_credentials() is not None
            return session.create_client(
                "s3",
                endpoint_url=self._endpoint,
                verify=os.environ.get("AWS_CA_BUNDLE") or ca_file(),
                region_name=region or (None if amazon else "us-east-1"),
                config=Config(
                    connect_timeout=CONNECT_SECONDS,
                    read_timeout=READ_SECONDS,
                    retries={"total_max_attempts": 1},  # we ask again ourselves, and say so
                    signature_version=None if signed else UNSIGNED,
                    # Elsewhere a bucket is no host: lookup data.minio-service.kubeflow: no such host.
                    s3={"addressing_style": "auto" if amazon else "path"},
                    response_checksum_validation="when_required",  # older stores answer with none
                ),
            )
        except (BotoCoreError, ValueError) as error:  # ValueError: the endpoint is no address
            raise InputError(f"{self.shown}: {error}") from None

    def _ask(self, operation: str, **arguments: Any) -> dict[str, Any]:
        from botocore.exceptions import BotoCoreError, ClientError, ConnectionError, HTTPClientError

        try:
            answer: dict[str, Any] = getattr(self._client, operation)(Bucket=self._bucket, **arguments)
        except ClientError as error:
            raise self._refusal(error, head=operation == "head_object") from None
        except (HTTPClientError, ConnectionError) as error:
            raise explained(error, self._address, self.shown) from None
        except BotoCoreError as error:  # keys that are not whole, a name that no bucket can have
            raise InputError(f"{self.shown}: {' '.join(str(error).split())}") from None
        return answer

    def _refusal(self, error: Any, *, head: bool) -> Exception:
        code = str(error.response.get("Error", {}).get("Code", ""))
        message = " ".join(str(error.response.get("Error", {}).get("Message", "")).split())
        status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
        if status >= 500 or status in PASSING or code in _PASSING:
            return Away(f"the store answers {status}" + (f" {code}" if code != str(status) else ""))
        if code in _CHANGED:
            return Away("it has changed")
        if code == "NoSuchBucket":
            return _Missing(f"{self.shown}: nothing is there (no bucket {self._bucket!r})")
        if status == 404:
            return _Missing(f"{self.shown}: nothing is there")
        if head:
            return _Silent()
        if status in (401, 403):
            return InputError(f"{self.shown}: access is denied; {self._why(code, message)}")
        return InputError(f"{self.shown}: the store answers {status} {code}: {message}")

    def _why(self, code: str, message: str) -> str:
        from botocore import UNSIGNED

        if self._client.meta.config.signature_version is UNSIGNED:
            return f"{KEY} is not set"
        if code == "InvalidAccessKeyId":
            return f"the store does not know the key of {KEY}"
        if code == "SignatureDoesNotMatch":
            return f"{SECRET} is not the secret of {KEY}"
        if code == "AccessDenied":
            return f"the key of {KEY} may not read it"
        return f"the store answers {code}: {message}"

    def _blocks(self, body: Any) -> Generator[bytes, None, None]:
        from botocore.exceptions import BotoCoreError
        from urllib3.exceptions import HTTPError

        try:
            while True:
                try:
                    block = body.read(BLOCK_BYTES)
                except (BotoCoreError, HTTPError, OSError) as error:
                    raise explained(error, self._address, self.shown) from None
                if not block:
                    return
                yield block
        finally:
            body.close()


class _Missing(InputError):
    """There is no object or bucket of that name."""


class _Silent(Exception):
    """The store refused and did not say why."""


def _endpoint() -> str | None:
    """Return the address of the S3 store, None for Amazon's own."""
    for name in ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"):
        if value := os.environ.get(name):
            return value
    if host := os.environ.get("S3_ENDPOINT"):  # as KServe has it
        scheme = "http" if os.environ.get("S3_USE_HTTPS", "1") in ("0", "false") else "https"
        return host if "://" in host else f"{scheme}://{host}"
    return None


def _is_amazon(endpoint: str) -> bool:
    host = urlsplit(endpoint).hostname or ""
    return host.endswith((".amazonaws.com", ".amazonaws.com.cn"))
