"""The third door: the wire of the Hugging Face Hub, so that `HF_ENDPOINT=http://…` lets its tools work here unchanged.

It says what `hub.api` says in another dialect, through the same rooms: a version is a commit, its number a tag, and
`main` is what `latest` means. What clients do is in `docs/hf-compat.md`.
"""
