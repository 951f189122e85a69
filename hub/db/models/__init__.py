"""The tables, by subject. What must always hold is a constraint here, not a check in code that could race."""

from hub.db.models import accounts, adapters, evaluating, finding, objects, record, table, versions

__all__ = ["accounts", "adapters", "evaluating", "finding", "objects", "record", "table", "versions"]
