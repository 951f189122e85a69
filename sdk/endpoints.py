"""Where base models and data sets come from: not from a hub of adapters, unless that passes the base on.

HF_ENDPOINT says where Hugging Face's client looks for everything. Where it names a hub of ours, so that other tools find
adapters there, bases and data sets are elsewhere still; where it names a mirror of Hugging Face, they are there.
"""

from __future__ import annotations

from typing import Any

from sdk.config import Config, Profile
from vera.data.huggingface import Endpoint

HUGGING_FACE = "https://huggingface.co"
# The tokens of huggingface.co. Any other is for the hub that HF_ENDPOINT names.
_THEIRS = ("hf_", "api_org_")
_RELAYED = "Vera-Relayed-From"
_TIMEOUT_S = 10


def download_options(model_id: str, *, config: Config) -> dict[str, Any]:
    """`endpoint` and `token` for a call of huggingface_hub that fetches the base `model_id`. May ask the hub once."""
    endpoint = endpoint_of(model_id, config=config)
    return {"endpoint": endpoint, "token": _token_for(endpoint)}


def for_data(config: Config) -> Endpoint:
    """Where data sets are: a hub of ours has none, and passes none on."""
    usual = Endpoint.usual().url
    url = HUGGING_FACE if _is_ours(usual, config) else usual
    return Endpoint(url, _token_for(url))


def _token_for(endpoint: str) -> str | bool | None:
    """None for the client's own, False for none."""
    from huggingface_hub import get_token

    if endpoint == Endpoint.usual().url:
        return None
    token = get_token()
    is_for_it = endpoint == HUGGING_FACE and token is not None and token.startswith(_THEIRS)
    return token if is_for_it else False


def endpoint_of(model_id: str, *, config: Config) -> str:
    """The hub to fetch the base `model_id` from."""
    if config.base_endpoint is not None:
        return config.base_endpoint
    usual = Endpoint.usual().url
    return HUGGING_FACE if _is_ours(usual, config) and not _passes_on(usual, model_id) else usual


def _is_ours(url: str, config: Config) -> bool:
    """Whether a hub of adapters is at `url`, as far as this machine knows."""
    return url == config.url or url in Profile.read(config.folder).logins


def _passes_on(hub: str, model_id: str) -> bool:
    from huggingface_hub import get_session

    try:
        answer = get_session().get(f"{hub}/api/models/{model_id}", timeout=_TIMEOUT_S)
    except Exception:  # of requests or of httpx, as the release has it; a hub that is gone gives no base
        return False
    return _RELAYED in answer.headers
