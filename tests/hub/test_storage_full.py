"""A full disk: writes are refused and leave nothing, reads go on, and it passes without a restart."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from hub.settings import Settings
from tests.builders import make_archive
from tests.hub.harness import Hub, code_of, start


@pytest.fixture
def small(embedded: Settings) -> Iterator[Hub]:
    """A hub whose database may not grow beyond half a megabyte."""
    hub = start(embedded.model_copy(update={"max_database_bytes": 512 * 1024}))
    yield hub
    hub.database.close()


def test_when_the_storage_is_full_pushes_are_refused_and_reads_go_on(small: Hub) -> None:
    small.register_base()
    first = small.push(make_archive(seed=0)).json()
    headers = small.headers()

    answers = (small.push(make_archive(seed=seed, card=f"{seed}" * 20_000), headers=headers) for seed in range(1, 50))
    refused = next(answer for answer in answers if answer.status_code != 201)

    assert code_of(refused) == (507, "STORAGE_FULL")
    before = small.contents
    assert code_of(small.push(make_archive(seed=99, card="x" * 30_000), headers=headers)) == (507, "STORAGE_FULL")
    assert small.contents == before
    assert before["blobs"] == 4 + 3 * (before["versions"] - 1)  # all have the same configuration
    assert small.get("/adapters/demo/tiny/versions/v1").json() == first
    assert small.get(f"/adapters/demo/tiny/blobs/{first['files'][0]['sha256']}").status_code == 200
    assert small.get("/whoami", headers=headers).status_code == 200


def test_when_there_is_space_again_pushes_go_on_where_they_were(small: Hub, embedded: Settings) -> None:
    small.register_base()
    headers = small.headers()
    pushed = 0
    while small.push(make_archive(seed=pushed, card="x" * 30_000), headers=headers).status_code == 201:
        pushed += 1
    small.database.close()

    roomy = start(embedded)
    answer = roomy.push(make_archive(seed=pushed), headers=headers)

    assert (answer.status_code, answer.json()["version"]) == (201, pushed + 1)
    roomy.database.close()
