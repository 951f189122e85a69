"""huggingface_hub signs in here by a browser, and in a CI job by who the job is."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from huggingface_hub import HfApi, constants
from huggingface_hub._oidc import oidc_login
from huggingface_hub.errors import BadRequestError, DeviceCodeError, HfHubHTTPError
from huggingface_hub.utils import _oauth_device

from hub.auth.identities import Issuers
from tests.hf.conftest import Wire
from tests.hub.issuer import ISSUER, Issuer
from tests.hub.test_trusted_publishing import PUBLISHER
from tests.hub.web.test_signing_in import Browser


@pytest.fixture
def their_endpoint(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> str:
    """Their client in this process asks this hub; HF_ENDPOINT is read when it is imported."""
    monkeypatch.setattr(constants, "ENDPOINT", wire.url)
    return wire.url


@pytest.fixture
def browser(wire: Wire) -> Browser:
    return Browser(wire.hub).sign_in(wire.hub, "lea")


def answer(browser: Browser, code: str, what: str) -> str:
    shown = browser.get(f"/settings/device/{code}")
    assert shown.status_code == 200, shown.text
    assert code in shown.text
    answered = browser.send(f"/settings/device/{code}/{what}")
    assert answered.status_code == 200, answered.text
    return shown.text


@pytest.mark.usefixtures("their_endpoint")
def test_who_is_let_in_by_a_browser_may_push_and_the_token_is_in_the_settings(wire: Wire, browser: Browser) -> None:
    asked = _oauth_device.request_device_code()
    assert asked["verification_uri"] == f"{wire.url}/settings/device"
    assert asked["verification_uri_complete"].endswith(asked["user_code"])
    shown = answer(browser, asked["user_code"], "allow")
    assert "python-httpx2/" in shown  # who asks says what it is

    given = _oauth_device.poll_device_token(asked)

    me = HfApi(endpoint=wire.url, token=given["access_token"]).whoami()
    assert (me["name"], me["auth"]["accessToken"]["role"]) == ("lea", "write")
    assert given["expires_in"] == 90 * 86400
    assert f"ends in {given['access_token'][-4:]}" in browser.get("/settings").text
    token = {"Authorization": f"Bearer {given['access_token']}"}
    made = wire.hub.post("/tokens", {"name": "more", "scopes": ["repo:read"]}, token)
    assert (made.status_code, made.json()["code"]) == (403, "SCOPE_INSUFFICIENT")
    wire.hub.delete("/tokens/current", token)
    with pytest.raises(HfHubHTTPError):
        HfApi(endpoint=wire.url, token=given["access_token"]).whoami()


@pytest.mark.usefixtures("their_endpoint")
def test_who_is_let_in_to_read_reads(wire: Wire, browser: Browser) -> None:
    asked = _oauth_device.request_device_code()
    answer(browser, asked["user_code"], "read")
    given = _oauth_device.poll_device_token(asked)
    me = HfApi(endpoint=wire.url, token=given["access_token"]).whoami()
    assert (me["name"], me["auth"]["accessToken"]["role"]) == ("lea", "read")


@pytest.mark.usefixtures("their_endpoint")
def test_who_is_refused_in_the_browser_is_told_so(browser: Browser) -> None:
    asked = _oauth_device.request_device_code()
    answer(browser, asked["user_code"], "deny")
    with pytest.raises(DeviceCodeError, match="denied"):
        _oauth_device.poll_device_token(asked)


@pytest.mark.usefixtures("their_endpoint")
def test_a_token_is_collected_once(browser: Browser) -> None:
    asked = _oauth_device.request_device_code()
    answer(browser, asked["user_code"], "allow")
    _oauth_device.poll_device_token(asked)
    with pytest.raises(DeviceCodeError, match="expired"):
        _oauth_device.poll_device_token(asked)


def test_hf_auth_login_waits_for_the_browser(wire: Wire, browser: Browser, tmp_path: Path) -> None:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "PYTEST"))}
    environment = {**kept, "HF_ENDPOINT": wire.url, "HF_HOME": str(tmp_path), "PYTHONUNBUFFERED": "1"}
    login = subprocess.Popen(
        [sys.executable, "-m", "huggingface_hub.cli.hf", "auth", "login"],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert login.stdout is not None
    said, code = "", None
    while code is None and (line := login.stdout.readline()):
        said += line
        code = re.search(r"/settings/device/([A-Z]{4}-[A-Z]{4})", line)
    assert code is not None, said

    answer(browser, code[1], "allow")

    said += login.communicate(timeout=60)[0]
    assert login.returncode == 0, said
    assert (tmp_path / "token").read_text().startswith("vhp_")


@pytest.fixture
def issuer(wire: Wire) -> Iterator[Issuer]:
    """An issuer that the hub trusts, and whose jobs of octo/lab may push what pat owns."""
    parts, issuer = wire.hub.app.state.services, Issuer()
    settings = parts.settings.model_copy(update={"public_url": wire.url})
    trusting = replace(parts, settings=settings, issuers=Issuers({ISSUER: "github"}, fetch=issuer.fetch))
    wire.hub.app.state.services = trusting
    added = wire.hub.post("/namespaces/pat/publishers", dict(PUBLISHER), wire.hub.headers("pat"))
    assert added.status_code == 201, added.text
    yield issuer
    wire.hub.app.state.services = parts
    path = f"/namespaces/pat/publishers/{added.json()['id']}"
    assert wire.hub.delete(path, wire.hub.headers("pat")).status_code == 204


def test_a_job_gets_a_token_for_the_one_adapter_it_names(wire: Wire, issuer: Issuer) -> None:
    given = oidc_login(resource="pat/topics", subject_token=issuer.identity(aud=wire.url), endpoint=wire.url)

    assert (given["token_type"], given["expires_in"]) == ("bearer", 900)
    job = HfApi(endpoint=wire.url, token=given["access_token"])
    assert job.whoami()["name"] == "pat"
    assert job.create_repo("pat/topics").repo_id == "pat/topics"
    with pytest.raises(HfHubHTTPError, match="restricted to pat/topics"):
        job.create_repo("pat/other")


def test_a_job_that_names_a_namespace_only_reads(wire: Wire, issuer: Issuer) -> None:
    given = oidc_login(resource="pat", subject_token=issuer.identity(aud=wire.url), endpoint=wire.url)
    with pytest.raises(HfHubHTTPError, match="repo:push"):
        HfApi(endpoint=wire.url, token=given["access_token"]).create_repo("pat/third")


@pytest.mark.parametrize("resource", ["ann/topics", "ann", "datasets/pat/topics"])
def test_a_job_gets_nothing_where_nobody_trusts_it(wire: Wire, issuer: Issuer, resource: str) -> None:
    with pytest.raises(BadRequestError, match="invalid_grant"):
        oidc_login(resource=resource, subject_token=issuer.identity(aud=wire.url), endpoint=wire.url)
