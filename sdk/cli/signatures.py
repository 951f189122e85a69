"""`eval verify`: whether a worker has signed a score."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sdk.cli import terminal
from sdk.cli.terminal import App, Failure, clean, pass_app

if TYPE_CHECKING:
    from sdk.signatures import Signed
    from vera.signing import PublicKey

# All is as it was signed but the score, which was computed again.
_RESCORED = 3
_MAX_BYTES = 1 << 20
_UNCHECKED = (
    "What single items were worth and answered was not checked against the digests that are signed: the hub shows it only of "
    "suites that say `items: public`, and not of results from before digests had a salt."
)


@click.command(name="verify")
@click.argument("evaluation", metavar="ID|FILE")
@click.option("--key", "key_file", type=click.Path(exists=True, dir_okay=False, path_type=Path), metavar="FILE",
    help="The worker's public key (worker.pub, where it runs). The one that the hub gives, otherwise.",
)  # fmt: skip
@click.option("--save", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE",
    help="Keep the signed envelope here: with --key it is checked without a hub.",
)  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="The statement that is signed.")
@pass_app
def verify(app: App, evaluation: str, *, key_file: Path | None, save: Path | None, as_json: bool) -> None:
    """Check that the score of an evaluation is what its worker has signed, with that worker's key.

    The number of an evaluation is in `vera-hub info REF --json`. Exit status 1 for what is not so, and 3 for a score that the hub
    has computed again since, which its worker has not signed.
    """
    from vera.attestation import check
    from vera.signing import PublicKey

    key = PublicKey.parse(_read(key_file)) if key_file is not None else None
    if Path(evaluation).is_file():
        if key is None:
            raise click.UsageError("A file is checked with the worker's key: add --key worker.pub.")
        statement, signer, rescored = check(_envelope(Path(evaluation)), key), key.id, None
    else:
        statement, signer, rescored = _check_at_hub(app, evaluation, key, save)
    if as_json:
        terminal.say_json(statement)
    else:
        for line in _lines(statement, signer):
            terminal.say(clean(line))
    if rescored is not None:
        raise Failure(rescored, _RESCORED)


def _check_at_hub(
    app: App, evaluation_id: str, key: PublicKey | None, save: Path | None
) -> tuple[dict[str, Any], str, str | None]:
    """The statement, who has signed it, and what was changed of the score since, if it was."""
    from sdk.signatures import check_evaluation
    from vera import attestation, signing

    with app.hub() as hub:
        evaluation, signature = hub.get_evaluation(evaluation_id), hub.get_signature(evaluation_id)
        used = key or signing.PublicKey.parse(signature.public_key)
        signed = check_evaluation(evaluation, signature.envelope, used)
        # Of what has no salt, a hub of an older release may give none.
        is_salted = signed.statement["predicate"].get("salted") is True
        items = hub.get_signature(evaluation_id, with_items=True).items if is_salted else None
    if items is None:
        terminal.note(_UNCHECKED)
    else:
        attestation.check_items(signed.statement, outcomes=items.outcomes, outputs=items.outputs, salt=items.salt)
    if save is not None:
        save.write_text(signing.dumps(signature.envelope))
    if key is None:
        terminal.note(f"The key is the one that {clean(app.config.url)} gives: with --key it is the worker's own word.")
    if signature.signed_by.revoked_at is not None:
        raise Failure(
            f"The signature is good, and the worker {clean(signature.signed_by.name)} was shut out "
            f"{signature.signed_by.revoked_at[:16]}: its word counts for what was before it was taken over.",
            1,
        )
    return (
        signed.statement,
        f"{used.id} ({signature.signed_by.name})",
        _rescored(signed) if signed.is_rescored else None,
    )


def _rescored(signed: Signed) -> str:
    others = ", ".join(
        f"the {metric} {signed.signed_scores[metric]!r}, and the hub's is {signed.scores[metric]!r}"
        for metric in signed.rescored
    )
    return (
        f"Signed is {others}: it was computed again since (`vera-hub admin rescore`), which its worker has not signed. "
        "Version, spec and environment are as they were signed."
    )


def _lines(statement: Mapping[str, Any], signer: str) -> list[str]:
    predicate = statement["predicate"]
    scores = ", ".join(f"{metric} {score:.4f}" for metric, score in predicate["scores"].items())
    facts = {
        "signed by": signer,
        **{each["name"]: f"sha256:{each['digest']['sha256']}" for each in statement["subject"]},
        "base": predicate["spec"]["base"],
        "spec": predicate["spec_digest"],
    }
    width = max(map(len, facts))
    return [
        f"{predicate['ref']} on {predicate['spec']['suite']}: {scores}, of {predicate['items']} items",
        *(f"  {name:<{width}}  {value}" for name, value in facts.items()),
    ]


def _envelope(path: Path) -> Mapping[str, Any]:
    from vera import strict_json
    from vera.errors import SignatureError

    try:
        envelope = strict_json.loads(_read(path).encode(), max_depth=8)
    except ValueError as error:
        raise SignatureError(f"{path} is no signed envelope: {error}.", code="ENVELOPE_INVALID") from error
    if not isinstance(envelope, dict):
        raise SignatureError(f"{path} is no signed envelope, but a {type(envelope).__name__}.", code="ENVELOPE_INVALID")
    return envelope


def _read(path: Path) -> str:
    with path.open("rb") as file:
        return file.read(_MAX_BYTES).decode("utf-8", errors="replace")
