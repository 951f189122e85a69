"""Where base models come from: not from a hub of adapters, unless that passes the base on.

HF_ENDPOINT says where Hugging Face's client looks for everything. Where it names a hub of ours, so that other tools find
adapters there, bases are elsewhere still; where it names a mirror of Hugging Face, they are there.
"""

from __future__ import annotations

from typing import Any

from sdk.config import Config, Profile

HUGGING_FACE = "https://huggingface.co"
# The tokens of huggingface.co. Any other is for the hub that HF_ENDPOINT names.
_THEIRS = ("hf_", "api_org_")
_RELAYED = "Vera-Relayed-From"
_TIMEOUT_S = 10


def download_options(model_id: str, *, config: Config) -> dict[str, Any]:
    """`endpoint` and `token` for a call of huggingface_hub that fetches the base `model_id`. May ask the hub once."""
    from huggingface_hub import constants, get_token

    endpoint = endpoint_of(model_id, config=config)
    if endpoint == constants.ENDPOINT.rstrip("/"):
        return {"endpoint": endpoint, "token": None}
    token = get_token()
    is_for_it = endpoint == HUGGING_FACE and token is not None and token.startswith(_THEIRS)
    return {"endpoint": endpoint, "token": token if is_for_it else False}


def endpoint_of(model_id: str, *, config: Config) -> str:
    """The hub to fetch the base `model_id` from."""
    from huggingface_hub import constants

    if config.base_endpoint is not None:
        return config.base_endpoint
    usual = str(constants.ENDPOINT).rstrip("/")
    is_ours = usual == config.url or usual in Profile.read(config.folder).logins
    return HUGGING_FACE if is_ours and not _passes_on(usual, model_id) else usual


def _passes_on(hub: str, model_id: str) -> bool:
    from huggingface_hub import get_session

    try:
        answer = get_session().get(f"{hub}/api/models/{model_id}", timeout=_TIMEOUT_S)
    except Exception:  # of requests or of httpx, as the release has it; a hub that is gone gives no base
        return False
    return _RELAYED in answer.headers
