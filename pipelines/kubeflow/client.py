"""Talk to Kubeflow Pipelines: one way to connect, to bear its faults and to explain its refusals."""

import contextlib
import io
import json
import logging
import os
import time
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

import kfp_server_api
from kfp.client import KF_PIPELINES_SA_TOKEN_ENV, KF_PIPELINES_SA_TOKEN_PATH
from kfp.client.client import KF_PIPELINES_ENDPOINT_ENV, KF_PIPELINES_UI_ENDPOINT_ENV, Client
from kfp.client.token_credentials_base import TokenCredentialsBase
from urllib3 import Retry
from urllib3.exceptions import HTTPError

from caloforge.errors import InputError
from caloforge.network import ca_file, check_address, lasting_problem, proxy_of
from caloforge.patience import PASSING, Patience
from caloforge.pods import ACCOUNT, in_pod
from caloforge.secrets import checked_secret, masked, read_secret, remember_address, without_secrets

logger = logging.getLogger(__name__)

HOST = KF_PIPELINES_ENDPOINT_ENV
"""Environment variable: address of the API, as kfp itself reads it."""

TOKEN = "CALOFORGE_KFP_TOKEN"
"""Environment variable: bearer token for the API."""

COOKIES = "CALOFORGE_KFP_COOKIES"
"""Environment variable: cookies of a browser that is logged in, ``name=value; name=value``."""

IN_CLUSTER = "http://ml-pipeline.kubeflow.svc.cluster.local:8888"

POLL_SECONDS = 10.0
PATIENCE_SECONDS = 120.0
"""An API server that does not answer for so long is given up: somebody sits before the terminal and waits."""

CONNECT_SECONDS = 10.0
ANSWER_SECONDS = 60.0
"""How long one request may take; kfp waits for ever."""

_LOG_ATTEMPTS = 3
_TEMPLATES = ("retry-system-container-impl", "system-container-impl", "system-container-driver")
"""Argo's names of what runs a step's container and the pod before it; they are part of the pods' names."""


class KubeflowError(RuntimeError):
    """Kubeflow Pipelines does not answer any more."""


class Refused(InputError):
    """Kubeflow Pipelines refused a request; ``status`` is the HTTP status."""

    def __init__(self, text: str, status: int) -> None:
        super().__init__(text)
        self.status = status


class Passing(Exception):
    """A fault that may be gone when the request is made again; ``answered`` tells whether a server was there."""

    def __init__(self, text: str, *, answered: bool) -> None:
        super().__init__(text)
        self.answered = answered


class _Client(Client):  # type: ignore[misc]
    """kfp's client without its surprises: it asks nothing while it is made, and reads no file in the user's home."""

    def __init__(self, *, namespace: str | None, **options: Any) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # it does not work with servers of 2022
            super().__init__(**options)
        rest = self._healthz_api.api_client.rest_client
        # We ask again ourselves, and say so; pages that have moved are followed, a login is recognised.
        rest.pool_manager.connection_pool_kw["retries"] = Retry(connect=0, read=0, redirect=5)
        rest.request = _bounded(rest.request)
        self._context_setting["namespace"] = namespace or ""

    def _load_config(self, host: str | None, *arguments: Any, **options: Any) -> Any:
        config = super()._load_config(host, *arguments, **options)
        if proxy := proxy_of(config.host):
            config.proxy, config.proxy_headers = proxy
        return config

    def _load_context_setting_or_default(self) -> None:
        self._context_setting = {"namespace": "not asked for"}

    def get_kfp_healthz(self, sleep_duration: int = 0) -> Any:
        """Ask once, where kfp asks five times and sleeps in between."""
        return self._healthz_api.healthz_service_get_healthz()


class _TokenFile(TokenCredentialsBase):  # type: ignore[misc]
    """A token that is read again before each request; a file that was broken meanwhile is refused and not sent."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def refresh_api_key_hook(self, config: Any) -> None:
        """Put the token where kfp's generated client takes it from."""
        config.api_key["authorization"] = read_secret(self._path)


def _bounded(request: Callable[..., Any]) -> Callable[..., Any]:
    """Return a method that makes requests as ``request`` does, but does not wait for an answer for ever."""

    def bounded(*arguments: Any, _request_timeout: Any = None, **named: Any) -> Any:
        return request(*arguments, _request_timeout=_request_timeout or (CONNECT_SECONDS, ANSWER_SECONDS), **named)

    return bounded


class Kubeflow:
    """Kubeflow Pipelines at one address.

    Attributes:
        client: kfp's own client.
        host: address of the API, without password.
        namespace: where runs are; None without multi-user isolation.
        poll_seconds: time between two looks at a run that is waited for.
        patience: seconds without an answer that are borne.
    """

    def __init__(
        self,
        client: Any,
        *,
        host: str,
        namespace: str | None,
        poll_seconds: float = POLL_SECONDS,
        patience: float = PATIENCE_SECONDS,
    ) -> None:
        """See whether there is a Kubeflow Pipelines.

        Args:
            client: kfp's client.
            host: for messages and links.
            namespace: where runs are.
            poll_seconds: see above.
            patience: see above.

        Raises:
            Refused: there is none, or it does not let us in.
            KubeflowError: nothing answers.
        """
        self.host, self.namespace = without_secrets(host), namespace
        self.poll_seconds, self.patience = poll_seconds, patience
        self.client, self._answers = client, False
        healthz = self.ask("connect", self.client.get_kfp_healthz)
        if healthz.multi_user and not namespace:
            raise InputError(f"{self.host}: has a namespace for each user; name yours with --namespace")

    def ask(self, what: str, call: Callable[..., Any], /, *arguments: Any, **named: Any) -> Any:
        """Call the API; ask again while it is overloaded, broken or away.

        Args:
            what: is done, in words, for the messages.
            call: method of kfp's client.
            arguments: of the call.
            named: of the call.
        """
        patience = Patience(self.patience, first=self.poll_seconds)
        while True:
            try:
                return self.once(what, call, *arguments, **named)
            except Passing as error:
                if not (self._answers or error.answered):
                    raise InputError(f"{self.host}: cannot be reached: {error}") from None
                if not patience.wait(str(error)):
                    raise KubeflowError(f"{self.host}: cannot {what}: {error}") from None

    def run(self, run_id: str) -> Any:
        """Return the record of a run.

        Raises:
            Refused: there is none, or what answers is none.
        """
        found = self.ask(f"read run {run_id!r}", self.client.get_run, run_id)
        if not found.run_id:
            raise self._garbled(f"read run {run_id!r}", "a run without identifier")
        return found

    def specification(self, run: Any) -> dict[str, Any]:
        """Return what a run was made of, as the compiler wrote it; the platform's part may stand beside it.

        A run that was started from a version of a pipeline only says which; the version's record has it.

        Raises:
            Refused: the version is not there any more.
        """
        content = run.pipeline_spec
        if not content and (version := run.pipeline_version_reference):
            record = self.ask(
                f"read version {version.pipeline_version_id!r} of pipeline {version.pipeline_id!r}",
                self.client.get_pipeline_version,
                version.pipeline_id,
                version.pipeline_version_id,
            )
            content = record.pipeline_spec
        return dict(content or {})

    def step_log(self, run_id: str, node: str) -> str | None:
        """Return the log of the container of one of Argo's nodes; None if the API has none.

        The archive of logs, which has what has ended, goes by the node's identifier; what the server
        asks the cluster for, by the pod's name.

        Raises:
            Refused: it does not want to.
        """
        workflow, _, code = node.rpartition("-")
        names = (node, *(f"{workflow}-{template}-{code}" for template in _TEMPLATES))
        return next((text for name in names if (text := self._log(run_id, name)) is not None), None)

    def _log(self, run_id: str, name: str) -> str | None:
        path = f"/apis/v1alpha1/runs/{quote(run_id, safe='')}/nodes/{quote(name, safe='')}/log"
        try:
            return self._text(name, path, {})
        except Refused as error:
            if error.status not in (400, 404):
                raise
        # The server of the user interface, which the dashboard's address leads to, hands this path of the API on
        # to nobody; it has one of its own.
        query = {"podname": name, "runid": run_id, "podnamespace": self.namespace or ""}
        with contextlib.suppress(Refused):
            return self._text(name, "/k8s/pod/logs", {key: value for key, value in query.items() if value})
        return None

    def _text(self, name: str, path: str, query: Mapping[str, str]) -> str | None:
        api = self.client._healthz_api.api_client  # kfp's client has no method for logs

        def read() -> str:
            answer = api.call_api(
                path, "GET", query_params=list(query.items()), header_params={"Accept": "*/*"},
                auth_settings=["Bearer"], _preload_content=False, _return_http_data_only=True,
            )  # fmt: skip
            return str(answer.data.decode(errors="replace"))

        for _ in range(_LOG_ATTEMPTS):
            try:
                return str(self.once(f"read the log of {name!r}", read, is_log=True))
            except Passing as error:
                if error.answered:  # 500 means that the pod or its log is gone
                    return None
                time.sleep(min(1.0, self.poll_seconds))
        return None

    def once(self, what: str, call: Callable[..., Any], /, *arguments: Any, is_log: bool = False, **named: Any) -> Any:
        """Call the API once.

        Args:
            what: is done, in words, for the messages.
            call: method of kfp's client.
            arguments: of the call.
            is_log: whether the answer is plain text and not an object.
            named: of the call.

        Raises:
            Passing: it may answer if it is asked again.
            Refused: it does not want to.
        """
        try:
            with contextlib.redirect_stdout(io.StringIO()):  # kfp prints links
                answer = call(*arguments, **named)
        except (kfp_server_api.ApiException, HTTPError) as error:
            if problem := lasting_problem(error):
                raise InputError(f"{self.host}: cannot {what}: {problem}") from None
            if isinstance(error, HTTPError):
                raise Passing(self._reason(error), answered=False) from None
            raise self._explained(what, error) from None
        except InputError:  # of a token file
            raise
        except (ValueError, TypeError, AttributeError, KeyError, RecursionError) as error:
            raise self._garbled(what, f"{type(error).__name__}: {error}") from None
        self._check_is_api(what, is_log=is_log)
        self._answers = True
        return answer

    def link(self, place: str) -> str:
        """Return the address of a page of the user interface."""
        base = without_secrets(os.environ.get(KF_PIPELINES_UI_ENDPOINT_ENV, self.host))
        return f"{base.rstrip('/')}/#/{place}"

    def _check_is_api(self, what: str, *, is_log: bool) -> None:
        """Refuse pages for people: kfp takes the login page of a proxy for an object without content."""
        response = self.client._healthz_api.api_client.last_response
        kind = response.getheader("content-type", "")
        if "html" in kind if is_log else "json" not in kind:
            raise self._not_the_api(what, response.status)
        if is_log:
            return
        try:
            content = json.loads(response.data)  # kfp takes what is no JSON for an object without content, too
        except (ValueError, RecursionError) as error:
            raise self._garbled(what, f"no JSON: {error}") from None
        if not isinstance(content, dict):
            raise self._garbled(what, f"{type(content).__name__} where an object is expected")

    def _garbled(self, what: str, text: str) -> Refused:
        text = masked(" ".join(text.split()))[:300]
        return Refused(f"{self.host}: cannot {what}: the answer is not that of Kubeflow Pipelines ({text})", 200)

    def _not_the_api(self, what: str, status: int) -> Refused:
        text = (
            f"{self.host}: cannot {what}: a web page answers, not the API of Kubeflow Pipelines; is the login still "
            "good, and does the address end with /pipeline where Kubeflow has a dashboard?"
        )
        return Refused(text, status)

    def _explained(self, what: str, error: Any) -> Exception:
        if error.status in PASSING:
            return Passing(self._reason(error), answered=True)
        kind = (error.headers or {}).get("Content-Type", "")
        if "html" in kind and error.status != 401:
            return self._not_the_api(what, error.status)
        text = {
            401: f"it does not know who asks; the token in {TOKEN} or --token-file, or the cookie, is missing or expired",
            403: f"forbidden in namespace {self.namespace!r}: {self._reason(error)}",
            404: f"not there, or not the API version v2beta1: {self._reason(error)}",
        }.get(error.status, self._reason(error))
        return Refused(f"{self.host}: cannot {what}: {text}", error.status)

    def _reason(self, error: Exception) -> str:
        """Return one line of what went wrong, with nothing in it that is secret."""
        if isinstance(error, kfp_server_api.ApiException):
            try:
                content = json.loads(error.body or "")
                message = content.get("message") or content["error"]
            except (ValueError, KeyError, TypeError, AttributeError):
                message = error.reason
            text = f"{error.status} {message}"
        else:
            cause = getattr(error, "reason", None) or error  # urllib3 wraps what it gave up on
            text = f"{type(cause).__name__}: {cause}"
        return masked(" ".join(text.split()))[:500]


def connect(
    host: str | None = None,
    *,
    namespace: str | None = None,
    token_file: Path | None = None,
    cookies_file: Path | None = None,
    poll_seconds: float = POLL_SECONDS,
    patience: float = PATIENCE_SECONDS,
) -> Kubeflow:
    """Return Kubeflow Pipelines at an address, or that of the cluster that this runs in.

    Who asks is proved by the token file, else by the environment, else by the token that a pod of
    the cluster has; token files are read again before each request, as they are renewed.

    Args:
        host: address of the API; without it that in the environment.
        namespace: where runs are; without it the pod's.
        token_file: file with a bearer token.
        cookies_file: file with the cookies of a browser.
        poll_seconds: see :class:`Kubeflow`.
        patience: see :class:`Kubeflow`.

    Raises:
        InputError: no address is known, or a file cannot be read.
        KubeflowError: nothing answers there.
    """
    inside = in_pod()
    host = host or os.environ.get(HOST) or (IN_CLUSTER if inside else None)
    if not host:
        raise InputError(f"no address of Kubeflow Pipelines; give --host https://.../pipeline or set {HOST}")
    if "://" not in host:
        raise InputError(f"{without_secrets(host)}: an address begins with https:// or http://")
    check_address(host)
    if namespace is None and inside:
        namespace = (ACCOUNT / "namespace").read_text(encoding="utf-8").strip()
    remember_address(host)
    token = os.environ.get(TOKEN, "").strip()
    cookies = os.environ.get(COOKIES, "").strip()
    if cookies_file is not None:
        cookies = read_secret(cookies_file, what="list of cookies")
    elif cookies:
        checked_secret(cookies, where=COOKIES, what="list of cookies")
    if token_file is not None:
        token = read_secret(token_file)
    elif token:
        checked_secret(token, where=TOKEN)
    elif not cookies:
        given = os.environ.get(KF_PIPELINES_SA_TOKEN_ENV, KF_PIPELINES_SA_TOKEN_PATH)
        token_file = Path(given) if Path(given).exists() else None

    client = _Client(
        host=host,
        namespace=namespace,
        existing_token=token if token_file is None else None,
        credentials=None if token_file is None else _TokenFile(token_file),
        cookies=cookies or None,
        ssl_ca_cert=ca_file(),
    )
    return Kubeflow(client, host=host, namespace=namespace, poll_seconds=poll_seconds, patience=patience)
