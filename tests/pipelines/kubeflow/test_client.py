import socket
from collections.abc import Iterator
from pathlib import Path

import kfp_api
import pytest
from kfp_api import KfpApi

from caloforge.errors import InputError
from caloforge.pipelines.kubeflow import client as kubeflow
from caloforge.pipelines.kubeflow.client import COOKIES, HOST, TOKEN, Kubeflow, Refused, connect

SECRET = "planted-token-0123456789"


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> Iterator[KfpApi]:
    for name in (HOST, TOKEN, COOKIES, "KF_PIPELINES_SA_TOKEN_PATH", "KF_PIPELINES_UI_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)
    with kfp_api.running(KfpApi(token=SECRET)) as api:
        yield api


def test_the_token_comes_from_the_environment(api: KfpApi, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(TOKEN, SECRET)
    monkeypatch.setenv(HOST, api.url)
    assert connect().host == api.url


def test_a_token_file_is_read_anew_for_each_request(api: KfpApi, tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text(f"{SECRET}\n")
    connected = connect(api.url, token_file=path)
    api.token = "renewed"
    path.write_text("renewed")
    assert connected.ask("list", connected.client.list_pipelines).pipelines == []


def test_a_pod_takes_its_own_token(api: KfpApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "token").write_text(SECRET)
    (tmp_path / "namespace").write_text("profile\n")
    monkeypatch.setenv("KF_PIPELINES_SA_TOKEN_PATH", str(tmp_path / "token"))
    monkeypatch.setattr(kubeflow, "ACCOUNT", tmp_path)
    monkeypatch.setattr(kubeflow, "in_pod", lambda: True)
    monkeypatch.setattr(kubeflow, "IN_CLUSTER", api.url)
    connected = connect()
    assert (connected.host, connected.namespace) == (api.url, "profile")


def test_cookies_of_a_browser_do_too(api: KfpApi, tmp_path: Path) -> None:
    api.token = ""
    (tmp_path / "cookies").write_text("oauth2_proxy_kubeflow=abc")
    connect(api.url, cookies_file=tmp_path / "cookies")
    assert api.requests[-1][3]["cookie"] == "oauth2_proxy_kubeflow=abc"


@pytest.mark.parametrize("token", ["", "expired-token"])
def test_a_missing_or_expired_token_is_told_apart_from_nothing(
    api: KfpApi, token: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(TOKEN, token)
    with pytest.raises(Refused, match="missing or expired") as error:
        connect(api.url)
    assert not token or token not in str(error.value)


def test_no_message_holds_the_token_that_a_server_repeats(api: KfpApi, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(TOKEN, SECRET)
    connected = connect(api.url)
    api.script = [400]
    with pytest.raises(Refused, match=r"Bearer \*\*\*") as error:
        connected.ask("list", connected.client.list_pipelines)
    assert SECRET not in str(error.value)


def test_no_namespace_where_users_have_their_own(api: KfpApi) -> None:
    api.token, api.multi_user = "", True
    with pytest.raises(InputError, match="name yours with --namespace"):
        connect(api.url)
    assert connect(api.url, namespace="mine").namespace == "mine"


def test_no_address_or_no_address_of_ours(api: KfpApi, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no address of Kubeflow Pipelines; give --host"):
        connect()
    with pytest.raises(InputError, match="begins with https://"):
        connect("kubeflow.example.org/pipeline")
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        nobody = f"http://127.0.0.1:{unused.getsockname()[1]}"
        with pytest.raises(InputError, match=r"cannot be reached: NewConnectionError.*refused"):
            connect(nobody)
    with pytest.raises(InputError, match="does not speak TLS"):
        connect(api.url.replace("http://", "https://"))
    with pytest.raises(InputError, match="cannot be read"):
        connect(api.url, token_file=tmp_path / "absent")
    (tmp_path / "empty").touch()
    with pytest.raises(InputError, match="is empty"):
        connect(api.url, token_file=tmp_path / "empty")


@pytest.mark.parametrize(("fault", "message"), [("html", "a web page answers"), (404, "not the API version v2beta1")])
def test_an_address_of_something_else(api: KfpApi, fault: int | str, message: str) -> None:
    api.script = [fault]
    with pytest.raises(Refused, match=message):
        connect(api.url)


def _with_log(api: KfpApi) -> Kubeflow:
    api.token = ""
    api.add("runs", {"display_name": "first"})
    api.logs["w-7"] = "08:00:00  \N{GREEK SMALL LETTER PHI}\n"
    return connect(api.url, poll_seconds=0.01, patience=1.0)


def test_the_log_of_a_node(api: KfpApi) -> None:
    connected = _with_log(api)
    assert connected.step_log("runs-1", "w-7") == "08:00:00  \N{GREEK SMALL LETTER PHI}\n"
    api.logs["w-retry-system-container-impl-8"] = "{}"
    assert connected.step_log("runs-1", "w-8") == "{}", "what runs goes by its pod's name"
    assert connected.step_log("runs-1", "w-9") is None


def test_a_log_goes_with_the_token(api: KfpApi, monkeypatch: pytest.MonkeyPatch) -> None:
    connected = _with_log(api)
    api.token = SECRET
    with pytest.raises(Refused, match="missing or expired"):
        connected.step_log("runs-1", "w-7")
    monkeypatch.setenv(TOKEN, SECRET)
    assert connect(api.url).step_log("runs-1", "w-7")


@pytest.mark.parametrize("namespace", [None, "team"])
def test_a_log_by_way_of_the_dashboard(api: KfpApi, namespace: str | None) -> None:
    """The server of the user interface hands on v1beta1 and v2beta1 of the API, and has a path of its own for logs."""
    _with_log(api)
    api.dashboard, api.multi_user = True, namespace is not None
    api.logs["w-retry-system-container-impl-8"] = "what ran"
    connected = connect(api.url, namespace=namespace, poll_seconds=0.01, patience=1.0)
    assert connected.step_log("runs-1", "w-8") == "what ran"
    assert connected.step_log("runs-1", "w-9") is None


@pytest.mark.parametrize("fault", ["reset", "lost"])
def test_a_log_bears_a_broken_connection(api: KfpApi, fault: str) -> None:
    connected = _with_log(api)
    api.script = [fault, fault]
    assert connected.step_log("runs-1", "w-7")
    api.script = [fault] * 12
    assert connected.step_log("runs-1", "w-7") is None


def test_a_login_page_is_no_log(api: KfpApi) -> None:
    connected = _with_log(api)
    api.script = ["html"]
    with pytest.raises(Refused, match="a web page answers"):
        connected.step_log("runs-1", "w-7")


def test_the_specification_of_a_run_is_in_the_run_or_in_its_version(api: KfpApi) -> None:
    connected = _with_log(api)
    spec = {"pipelineInfo": {"name": "mine"}}
    api.add("versions", {"pipeline_id": "p", "pipeline_spec": spec})
    reference = {"pipeline_id": "p", "pipeline_version_id": "versions-1"}
    api.add("runs", {"pipeline_version_reference": reference})
    api.add("runs", {"pipeline_spec": {"pipelineInfo": {"name": "its own"}}})
    assert connected.specification(connected.run("runs-2")) == spec
    assert connected.specification(connected.run("runs-3")) == {"pipelineInfo": {"name": "its own"}}
    assert connected.specification(connected.run("runs-1")) == {}
    api.objects["versions"].clear()
    with pytest.raises(Refused, match="cannot read version 'versions-1' of pipeline 'p': not there"):
        connected.specification(connected.run("runs-2"))
