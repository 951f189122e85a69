"""Who asks over this wire."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Request

from hub.access.permission import Allowed
from hub.access.services import Services
from hub.auth.policy import Action, Principal

# The tokens of huggingface.co, which clients send to whatever hub HF_ENDPOINT names.
_THEIRS = ("hf_", "api_org_")


class Wired(Allowed):
    """`Allowed`, to which a token of the other hub is as good as none where one only reads: whoever is logged in there
    reads here what is public. What announces a push is not counted as another one."""

    def __init__(self, action: Action, *, is_counted: bool = True) -> None:
        super().__init__(action)
        self._is_counted = is_counted

    def count(self, request: Request, parts: Services, principal: Principal | None) -> None:
        if self._is_counted:
            super().count(request, parts, principal)

    def credential(self, request: Request) -> str | None:
        secret = super().credential(request)
        is_theirs = secret is not None and secret.startswith(_THEIRS)
        return None if is_theirs and self.action is Action.READ else secret


_read = Depends(Wired(Action.READ))
ReadOnly = _read
# Who reads; None is anybody.
Reader = Annotated[Principal | None, _read]
