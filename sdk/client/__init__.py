"""A hub over HTTP: one method per endpoint of docs/api.md.

Nothing a hub says is trusted to be small or well formed: answers are counted while they arrive,
decoded strictly and refused by BadAnswer. Whether bytes are the promised ones is the business of
`sdk.fetching`.
"""

from __future__ import annotations

from sdk.client.accounts import Accounts
from sdk.client.adapters import Adapters
from sdk.client.aliases import Aliases
from sdk.client.evaluations import Evaluations
from sdk.client.organisations import Organisations
from sdk.client.record import Record
from sdk.client.versions import Versions
from sdk.client.workers import Workers


class Hub(Accounts, Organisations, Record, Adapters, Versions, Aliases, Evaluations, Workers):
    """A hub. Connects when it is first asked something; close it, or use it in a `with`.

    Requests that can be repeated without harm are repeated a few times when the hub cannot be
    reached or says it is busy. Raises the errors of `sdk.errors`. Several threads may share one.
    """
