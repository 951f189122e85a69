"""Aliases: names of versions that may be moved, and where they were."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import TYPE_CHECKING

from sdk.client.addresses import selector_of
from sdk.client.wire import Wire, done_once
from vera import strict_json
from vera.ref import AdapterRef

if TYPE_CHECKING:
    from sdk.models.aliases import Alias, AliasMove


class Aliases(Wire):
    """Aliases: names of versions that may be moved, and where they were."""

    def list_aliases(self, ref: AdapterRef) -> Iterator[Alias]:
        from sdk.models.aliases import Alias

        return self._pages(f"{self._path_of(ref)}/aliases", {}, Alias)

    def get_alias(self, ref: AdapterRef, alias: str) -> Alias:
        from sdk.models.aliases import Alias

        return Alias.from_json(self._get(self._alias_path(ref, alias)).json())

    def alias_history(self, ref: AdapterRef, alias: str) -> Iterator[AliasMove]:
        """Every move of the alias, newest first; also of one that was removed."""
        from sdk.models.aliases import AliasMove

        return self._pages(f"{self._alias_path(ref, alias)}/history", {}, AliasMove)

    def alias_at(self, ref: AdapterRef, alias: str, time: datetime) -> AliasMove:
        """The move that said what the alias meant at `time`, in `after`. Raises NotFound when it was not set then, and
        Refused for a time that is still to come."""
        from sdk.models.aliases import AliasMove

        return AliasMove.from_json(self._get(f"{self._alias_path(ref, alias)}/at", {"time": time.isoformat()}).json())

    def set_alias(
        self,
        ref: AdapterRef,
        alias: str,
        *,
        expected: str | None = None,
        revision: int | None = None,
        must_be_new: bool = False,
        protected: bool | None = None,
    ) -> Alias:
        """Lets `alias` mean the version that `ref` names exactly.

        Only if it means the version `expected` (`v2`) now, is at that `revision`, or is not set at all, where that
        is said: Conflict, with what it is now in `facts`, otherwise. `protected` None leaves that as it is.
        """
        from sdk.models.aliases import Alias

        body = {"version": selector_of(ref), "expected": expected, "protected": protected}
        conditions = {"If-Match": revision and f'"{revision}"', "If-None-Match": "*" if must_be_new else None}
        headers = {name: value for name, value in conditions.items() if value}
        reply = self._send(
            "PUT",
            self._alias_path(ref, alias),
            is_idempotent=True,
            content=strict_json.dumps(body),
            # A move whose answer got lost is not what it was expected to be any more.
            headers={"Content-Type": "application/json", **headers, **done_once()},
        )
        return Alias.from_json(reply.json())

    def promote(
        self,
        ref: AdapterRef,
        alias: str,
        evaluation_id: str,
        *,
        minimum: str | None = None,
        against_id: str | None = None,
        margin: float = 0.0,
        revision: int | None = None,
        must_be_new: bool = False,
    ) -> Alias:
        """Lets `alias` mean the version that was evaluated, if the hub finds that it passes the gates: Conflict otherwise.

        `revision` and `must_be_new` as in `set_alias`.
        """
        from sdk.models.aliases import Alias

        body = {"evaluation": evaluation_id, "minimum": minimum, "against": against_id, "margin": margin}
        conditions = {"If-Match": revision and f'"{revision}"', "If-None-Match": "*" if must_be_new else None}
        headers = {name: value for name, value in conditions.items() if value}
        reply = self._send(
            "POST",
            f"{self._alias_path(ref, alias)}/promotions",
            is_idempotent=True,
            content=strict_json.dumps(body),
            headers={"Content-Type": "application/json", **headers, **done_once()},
        )
        return Alias.from_json(reply.json())

    def remove_alias(self, ref: AdapterRef, alias: str, *, revision: int | None = None) -> None:
        """Removes the alias; its history stays."""
        headers = {"If-Match": f'"{revision}"'} if revision else {}
        self._send("DELETE", self._alias_path(ref, alias), is_idempotent=True, headers={**headers, **done_once()})
