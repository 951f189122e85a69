"""What a hub answers, by subject, as docs/api.md describes it.

Times are RFC 3339 text in UTC and sizes are bytes, as on the wire. Whatever stands in here was
said by the hub: a digest is a claim until `sdk.fetching` has compared it with the bytes.
"""
