"""Organisations, their members and invitations."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from sdk.client.addresses import segment
from sdk.client.wire import Wire

if TYPE_CHECKING:
    from sdk.models.accounts import Invitation, Member, Organisation


class Organisations(Wire):
    """Organisations, their members and invitations."""

    def create_organisation(self, name: str) -> Organisation:
        """A new organisation, which you own."""
        from sdk.models.accounts import Organisation

        return Organisation.from_json(self._post("/api/v1/orgs", {"name": name}).json())

    def list_organisations(self) -> Iterator[Organisation]:
        """Those you are in."""
        from sdk.models.accounts import Organisation

        return self._pages("/api/v1/orgs", {}, Organisation)

    def get_organisation(self, name: str) -> Organisation:
        from sdk.models.accounts import Organisation

        return Organisation.from_json(self._get(f"/api/v1/orgs/{segment(name)}").json())

    def delete_organisation(self, name: str) -> None:
        """Ends an organisation that has no adapters. Nobody ever gets its name."""
        self._delete(f"/api/v1/orgs/{segment(name)}")

    def list_members(self, organisation: str) -> Iterator[Member]:
        from sdk.models.accounts import Member

        return self._pages(f"/api/v1/orgs/{segment(organisation)}/members", {}, Member)

    def change_role(self, organisation: str, user: str, role: str) -> Member:
        """`role` is reader, publisher, maintainer or owner."""
        from sdk.models.accounts import Member

        path = f"/api/v1/orgs/{segment(organisation)}/members/{segment(user)}"
        return Member.from_json(self._write("PUT", path, {"role": role}).json())

    def remove_member(self, organisation: str, user: str) -> None:
        """Takes a member out; yourself, to leave."""
        self._delete(f"/api/v1/orgs/{segment(organisation)}/members/{segment(user)}")

    def list_invitations(self, organisation: str | None = None) -> Iterator[Invitation]:
        """The open invitations to an organisation, or those to you."""
        from sdk.models.accounts import Invitation

        path = "/api/v1/invitations" if organisation is None else f"/api/v1/orgs/{segment(organisation)}/invitations"
        return self._pages(path, {}, Invitation)

    def invite(self, organisation: str, user: str, role: str) -> Invitation:
        """Asks a user to join, in the place of an earlier invitation."""
        from sdk.models.accounts import Invitation

        path, body = f"/api/v1/orgs/{segment(organisation)}/invitations", {"user": user, "role": role}
        return Invitation.from_json(self._post(path, body, is_idempotent=True).json())

    def withdraw_invitation(self, organisation: str, user: str) -> None:
        self._delete(f"/api/v1/orgs/{segment(organisation)}/invitations/{segment(user)}")

    def accept_invitation(self, organisation: str) -> Organisation:
        from sdk.models.accounts import Organisation

        return Organisation.from_json(self._post(f"/api/v1/invitations/{segment(organisation)}/accept", {}).json())

    def decline_invitation(self, organisation: str) -> None:
        self._post(f"/api/v1/invitations/{segment(organisation)}/decline", {})
