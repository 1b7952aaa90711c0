"""A hundred secrets in the places where people put them, and what is none."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest

from caloforge.errors import InputError
from caloforge.logs import configure_logging
from caloforge.pipelines.parameters import check_parameters
from caloforge.pipelines.settings import PipelineSettings
from caloforge.secrets import (
    check_names,
    checked_secret,
    is_secret_name,
    masked,
    read_secret,
    remember,
    secret_in,
    without_secrets,
)
from caloforge.serving.inference_service import ServiceSettings
from caloforge.serving.storage_uri import storage_uri

PLANT = "Pl4nted"
"""Part of every secret here."""


@pytest.fixture(autouse=True)
def forgetful(monkeypatch: pytest.MonkeyPatch) -> None:
    """What one test gave away must not hide what another one does."""
    monkeypatch.setattr("caloforge.secrets._known", set())


NAMES = """
CALOFORGE_AUTHORIZATION CALOFORGE_KFP_COOKIES CALOFORGE_KFP_TOKEN CALOFORGE_WEBHOOK DB_PASS PGPASS PGPASSWORD MYSQL_PWD
HF_KEY HF_TOKEN HUGGING_FACE_HUB_TOKEN WANDB_API_KEY wandb_api_key MLFLOW_TRACKING_PASSWORD AWS_ACCESS_KEY_ID
AWS_SECRET_ACCESS_KEY AWS_SESSION_TOKEN S3_SECRET SECRET_KEY_BASE apiKey clientSecret authToken db.password X-Api-Key
GITHUB_PAT SLACK_WEBHOOK_URL AZURE_STORAGE_SAS ACCOUNTKEY XSRFTOKEN REGISTRY_AUTH JWT SIGNING_KEYS SSH_PRIVATE_KEY
KRB5_PASSPHRASE PASSWORD2 TOKEN1 API_KEY_1 NEXUS_PSW LDAP_BINDPW PASSKEY OIDC_CREDENTIALS SESSION_COOKIE FIRST_API_KEY DATA_ACCESS_KEY SECOND_PASSWORD
adminPass KEY PASS TOKEN_PASS
""".split()  # noqa: SIM905 - names are read in lines

PLACES_AND_MORE = """
AWS_WEB_IDENTITY_TOKEN_FILE AWS_SHARED_CREDENTIALS_FILE GOOGLE_APPLICATION_CREDENTIALS AWS_REGION AWS_ENDPOINT_URL
SSL_CERT_FILE HTTPS_PROXY TOKENIZERS_PARALLELISM SECRET_NAME PUBLIC_KEY KUBECONFIG KEYBOARD BYPASS COMPASS PASSIVE
SSH_AUTH_SOCK OMP_NUM_THREADS CALOFORGE_FETCH_CACHE PWD AUTHOR KEYTAB_PATH SORT_KEY PARTITION_KEY CACHE_KEY NUM_KEYS
sortKey KEY_COLUMN N_PASS MAX_PASS FORWARD_PASS PASS_THROUGH TOKEN_LIMIT COOKIE_DOMAIN CACHE_KEY_PREFIX PW_RATIO
""".split()  # noqa: SIM905

JWT = f"eyJhbGciOiJIUzI1NiJ9.{PLANT}eyJzdWIiOiIx.{PLANT}Sig"
TEXTS = (
    f"https://me:{PLANT}@host.example.org/showers.hdf5",
    f"https://{PLANT}@host.example.org/showers.hdf5",
    f"https://me:{PLANT}/with/slashes@host.example.org/showers.hdf5",
    f"https://me:a@{PLANT}@host.example.org/showers.hdf5",
    f"https://me:{PLANT}?x#y@host.example.org/showers.hdf5",
    f"s3://KEY:{PLANT}/+x@bucket/showers.hdf5",
    f"postgresql://me:{PLANT}@db:5432/calo",
    f"simplecache::https://me:{PLANT}@host/showers.hdf5",
    f"me:{PLANT}@host:8080/path",
    f"https://bucket.s3.amazonaws.com/k?X-Amz-Credential={PLANT}&X-Amz-Signature=1f",
    f"https://bucket.s3.amazonaws.com/k?a=1&X-Amz-Signature={PLANT}",
    f"https://bucket.s3.amazonaws.com/k?X-Amz-Security-Token={PLANT}",
    f"https://storage.googleapis.com/k?X-Goog-Signature={PLANT}",
    f"https://acc.blob.core.windows.net/k?sv=2024&sig={PLANT}",
    f"https://host/k?token={PLANT}",
    f"https://host/k#access_token={PLANT}",
    f"https://host/k?AWSAccessKeyId=x&Signature={PLANT}",
    f"https://host/k?api_key={PLANT}",
    f"https://hooks.slack.com/services/T0/B0/{PLANT}",
    f"https://discord.com/api/webhooks/1/{PLANT}",
    f"https://cern.webhook.office.com/webhookb2/{PLANT}",
    f"https://mattermost.example.org/hooks/{PLANT}abcdefghijklmnop",
    JWT,
    f"Bearer {JWT}",
    f"Bearer {PLANT}-token",
    f"Authorization: Bearer {PLANT}",
    f"Basic bWU6{PLANT}==",
    f"authservice_session: Cookie: session={PLANT}; path=/",
    f"-----BEGIN RSA PRIVATE KEY-----\nMIIE{PLANT}\n-----END RSA PRIVATE KEY-----",
    f"-----BEGIN OPENSSH PRIVATE KEY-----\n{PLANT}",
    f"password={PLANT}",
    f"AccountName=a;AccountKey={PLANT};EndpointSuffix=core.windows.net",
    f"host=db user=me password={PLANT}",
    f'{{"auths": {{"r": {{"password": "{PLANT}"}}}}}}',
    f"ghp_{PLANT}0123456789abcdefghijklmn",
    f"github_pat_{PLANT}0123456789abcdefghi",
    f"glpat-{PLANT}0123456789",
    f"hf_{PLANT}0123456789abcdefghij",
    f"xoxb-1234-{PLANT}",
    f"sk-{PLANT}0123456789abcdef",
    f"AIza{PLANT}0123456789abcdefghijklmnop",
    f"sha256~{PLANT}0123456789abcdefghijklmnopq",
    f"dckr_pat_{PLANT}0123456789",
    f"password: {PLANT}",
    f"the password is {PLANT}",
    f"Passphrase : {PLANT}",
    f"machine host login me password {PLANT}",
    f"x-api-key: {PLANT}",
    f"PRIVATE-TOKEN: {PLANT}",
    f"AWS_SECRET_ACCESS_KEY: {PLANT}",
    f"curl -u me:{PLANT} http://host/x",
    f"curl -ume:{PLANT} http://host/x",
    f"curl --user=me:{PLANT} http://host/x",
    f"sshpass -p {PLANT} ssh host",
    f"mysql -h host -p{PLANT}",
    f"--password {PLANT}",
    f"--http-password={PLANT}",
    f"//me:{PLANT}@host/x",
    rf"https:\/\/me:{PLANT}@host\/x",
    rf"https:\/\/{PLANT}@host\/x",
    rf"https:\/\/host\/x?token={PLANT}",
    rf"{{\"password\": \"{PLANT}\"}}",
    f"Server=host;Uid=me;Pwd={PLANT};",
    f"<password>{PLANT}</password>",
    f"name: DB_PASSWORD\n  value: {PLANT}",
    f'{{"name": "DB_PASSWORD", "value": "{PLANT}"}}',
)

GOOD_TEXTS = (
    "s3://bucket/a?b#c.hdf5",
    "https://host:8080/p@th/x.hdf5?download=1",
    "hf://datasets/user/repo@main/x",
    "http://[::1]:8080/x@y",
    "ghcr.io/caloforge/python-caloforge:0.1.0@sha256:" + "a" * 64,
    "/eos/user/m/me@cern/showers.hdf5",
    "the token in CALOFORGE_KFP_TOKEN or --token-file, or the cookie, is missing or expired",
    "kubectl create secret generic s3 --from-literal=key=... --docker-password=...",
    "webhook: give the entry of a Secret: {secret: chat, key: url}",
    "step train: token=true, tokens=48, key=vae",
    "10:20:30 mail@example.org",
    "password: cannot be read",
    "token: expected ASCII without spaces",
    "the token: 3 of 5",
    "pass: 10 of 12",
    "cookie: missing; auth: none",
    "docker run --user 1000:1000 -u 0:0 image",
    "signature: (N,) int64",
    "//host:8080/p@th",
    "<token></token>",
    "sort_key: energy2",
    "AWS_SHARED_CREDENTIALS_FILE: /home/me2/credentials",
)


@pytest.mark.parametrize("name", NAMES)
def test_names_of_secrets(name: str) -> None:
    assert is_secret_name(name)
    assert PLANT not in masked(f"cannot start: {name}={PLANT} is wrong")
    assert PLANT not in masked(str({name: PLANT}))


@pytest.mark.parametrize("name", PLACES_AND_MORE)
def test_names_of_other_things(name: str) -> None:
    assert not is_secret_name(name)


@pytest.mark.parametrize("text", TEXTS)
def test_looks_of_secrets(text: str) -> None:
    assert secret_in(text)
    for whole in (text, f"cannot read '{text}'", f"OSError: {text} (try again)", repr({"a": text})):
        assert PLANT not in masked(whole), masked(whole)
    assert masked(masked(text)) == masked(text)


@pytest.mark.parametrize("text", GOOD_TEXTS)
def test_looks_of_other_things(text: str) -> None:
    assert masked(text) == text
    assert secret_in(text) == ""


def places(text: str) -> dict[str, dict[str, Any]]:
    return {
        "env": {"pod": {"env": {"PLAIN": text}}},
        "annotation": {"pod": {"annotations": {"example.org/plain": text}}},
        "data": {"data": text},
        "server": {"service": {"env": {"PLAIN": text}}},
        "step": {"resources": {"train": {"env": {"PLAIN": text}}}},
    }


@pytest.mark.parametrize("place", places(""))
@pytest.mark.parametrize("text", TEXTS)
def test_settings_refuse_what_looks_like_a_secret(text: str, place: str) -> None:
    with pytest.raises(InputError, match="secret_env") as raised:
        PipelineSettings.parse(places(text)[place], where="settings.yaml")
    assert PLANT not in str(raised.value)


@pytest.mark.parametrize("field", ["env", "labels", "annotations", "node_selector"])
@pytest.mark.parametrize("name", NAMES)
def test_settings_refuse_what_is_called_a_secret(name: str, field: str) -> None:
    for settings in (PipelineSettings, ServiceSettings):
        values = {field: {name: f"{PLANT} !"}}
        with pytest.raises(InputError, match=r"looks like a secret.*secret_env") as raised:
            settings.parse({"pod": values} if settings is PipelineSettings else values, where="settings.yaml")
        assert PLANT not in str(raised.value)


def test_settings_take_references_to_secrets() -> None:
    PipelineSettings.parse(
        {
            "webhook": {"secret": "chat", "key": "url"},
            "pod": {
                "secret_env": {"AWS_SECRET_ACCESS_KEY": {"secret": "store", "key": "secretkey"}},
                "secret_volumes": {"krb5-token": "/krb5"},
                "image_pull_secrets": ["registry-password"],
                "env": {"AWS_WEB_IDENTITY_TOKEN_FILE": "/var/run/token", "HF_HUB_DISABLE_IMPLICIT_TOKEN": "1"},
                "annotations": {"vault.hashicorp.com/agent-inject-secret-store": "secret/data/store"},
                "tolerations": [{"key": "nvidia.com/gpu"}],
            },
        },
        where="settings.yaml",
    )


def test_the_address_of_a_webhook_is_no_setting() -> None:
    with pytest.raises(InputError, match="webhook: its address is a secret; give the entry of a Secret") as raised:
        PipelineSettings.parse({"webhook": f"https://chat.example.org/{PLANT}"}, where="settings.yaml")
    assert PLANT not in str(raised.value)


@pytest.mark.parametrize("text", TEXTS[:18])
def test_parameters_and_addresses_of_bundles_are_refused(text: str) -> None:
    pipeline = {"root": {"inputDefinitions": {"parameters": {"data": {"parameterType": "STRING"}}}}}
    with pytest.raises(InputError, match=r"parameter data holds .*secret_env") as raised:
        check_parameters(pipeline, {"data": text})
    assert PLANT not in str(raised.value)
    with pytest.raises(InputError, match="which the service would show") as raised:
        storage_uri(text, {})
    assert PLANT not in str(raised.value)


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        (f"https://me:{PLANT}@host:1/a/b.hdf5?sig=x#y", "https://host:1/a/b.hdf5"),
        (f"s3://KEY:{PLANT}/+x@bucket/a", "s3://bucket/a"),
        ("s3://bucket/a?b#c.hdf5", "s3://bucket/a?b#c.hdf5"),
        ("HTTPS://host/p@th", "https://host/p@th"),
        ("/a/path", "/a/path"),
    ],
)
def test_an_address_as_it_is_shown(address: str, shown: str) -> None:
    assert without_secrets(address) == shown


def test_what_a_process_knows_is_masked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGPASS", "a plain word")
    monkeypatch.setenv("HTTPS_PROXY", "http://me:proxy%2Fword@proxy:3128")
    remember("from a file")
    assert masked("a plain word, a%20plain%20word, from a file, proxy/word, proxy%2Fword") == "***, ***, ***, ***, ***"
    assert masked("bWU6cHJveHkvd29yZA==") == "***"


def test_the_log_is_masked(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging()
    try:
        raise OSError(f"https://me:{PLANT}@host/x")
    except OSError:
        logging.getLogger("caloforge").warning("cannot read %s", f"s3://a:{PLANT}@b/c", exc_info=True)
    assert PLANT not in (said := capsys.readouterr().err)
    assert "s3://***@b/c" in said


@pytest.mark.parametrize("content", [f"{PLANT}\nsecond line", f"{PLANT} x", f"{PLANT}\u00e9", f"{PLANT}\x00", "\n"])
def test_a_broken_token_file_is_refused_without_its_content(content: str, tmp_path: Path) -> None:
    (tmp_path / "token").write_text(content, encoding="utf-8")
    with pytest.raises(InputError, match=r"token: (not a token: expected ASCII|is empty)") as raised:
        read_secret(tmp_path / "token")
    assert PLANT not in str(raised.value)
    assert PLANT not in masked(f"Invalid header value b'Bearer {content!r}'")


def test_a_token_is_stripped(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("abc.def\n", encoding="utf-8")
    assert read_secret(tmp_path / "token") == "abc.def"
    assert checked_secret("Bearer abc.def", where="x", what="header") == "Bearer abc.def"


def test_a_number_of_tokens_is_no_secret() -> None:
    """MAX_TOKENS is a setting of many a program; a token under such a name is one."""
    assert list(check_names("env", {"MAX_TOKENS": "512"})) == []
    assert list(check_names("env", {"MAX_TOKENS": PLANT})) != []
    assert list(check_names("env", {"N_AUTH": "3", "NUM_COOKIES": "5"})) == []
