"""The HTTP API: one door to the domain. `docs/api.md` is its contract."""
