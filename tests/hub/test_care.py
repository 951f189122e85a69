"""Looking after a hub in use: copies that hold what was acknowledged, findings, and clearing away."""

from __future__ import annotations

import json
import os
import shutil
import threading
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from errno import ENOSPC
from pathlib import Path

import pytest
from click.testing import CliRunner
from sqlalchemy import delete, insert, select, text, update
from sqlalchemy.orm import Session

from hub.care import backup, collecting
from hub.care.checking import check
from hub.care.collecting import collect
from hub.cli.admin import admin
from hub.db.folder import fresh_beside, sole_use_of
from hub.db.models.adapters import Adapter
from hub.db.models.objects import Blob, Projection, RemovedObject
from hub.db.models.record import AuditEvent
from hub.db.models.versions import Version, VersionFile
from hub.db.queries import blobs as blob_rows
from hub.db.queries import projections
from hub.db.session import Database
from hub.domain import accounts, blobs
from hub.domain.blobs import INLINE_BYTES
from hub.errors import Conflict, Invalid, StartRefused, Unavailable
from hub.settings import DATABASE_FILE, Settings
from hub.storage.objects import ObjectBlobs
from tests.builders import make_archive, make_stored
from tests.hub.harness import Hub, sha256_of, start
from vera.manifest import CARD_FILE, WEIGHTS_FILE
from vera.projection import bytes_of_pair

LARGE = b"large" * INLINE_BYTES
LONG_AGO = datetime(2026, 1, 1, tzinfo=UTC)


def parts(hub: Hub) -> tuple[Database, ObjectBlobs | None]:
    services = hub.app.state.services
    return services.database, services.objects


def findings(hub: Hub) -> list[tuple[str, str]]:
    return [(each.kind, each.what) for each in check(*parts(hub))]


def push(hub: Hub, count: int = 3) -> dict[str, str]:
    """Pushes, and gives the digest of every version by its reference."""
    hub.register_base()
    pushed = [hub.push(make_archive(seed=seed), f"adapter-{seed}").json() for seed in range(count)]
    return {each["ref"]: each["digest"] for each in pushed}


def served(hub: Hub, refs: Mapping[str, str]) -> dict[str, str]:
    """The digest of each version as the hub has it now, all of whose files it gives."""
    found = {}
    for ref in refs:
        adapter, _, version = ref.partition("@")
        answer = hub.get(f"/adapters/{adapter}/versions/{version}")
        assert answer.status_code == 200, (ref, answer.text)
        for file in answer.json()["files"]:
            data = hub.get(f"/adapters/{adapter}/blobs/{file['sha256']}").content
            assert sha256_of(data) == file["sha256"]
        found[ref] = answer.json()["digest"]
    return found


# -- Backup and restore ---------------------------------------------------------------------------


def test_a_backup_made_while_pushes_arrive_holds_every_acknowledged_one(tmp_path: Path) -> None:
    hub = start(Settings(data_dir=tmp_path / "hub"))
    acknowledged: dict[str, str] = {}
    is_over, headers = threading.Event(), hub.headers("demo")
    hub.register_base()

    def keep_pushing() -> None:
        seed = 0
        while not is_over.is_set():
            answer = hub.push(make_archive(seed=seed), f"adapter-{seed % 7}", headers=headers)
            assert answer.status_code == 201, answer.text
            acknowledged[answer.json()["ref"]] = answer.json()["digest"]
            seed += 1

    pusher = threading.Thread(target=keep_pushing)
    pusher.start()
    while len(acknowledged) < 10:
        is_over.wait(0.01)
    before = dict(acknowledged)
    backup.back_up(*parts(hub), tmp_path / "copy")
    after = len(acknowledged)
    while len(acknowledged) < after + 3:
        is_over.wait(0.01)
    is_over.set()
    pusher.join()
    hub.database.close()

    backup.restore(tmp_path / "copy", Settings(data_dir=tmp_path / "again"))
    again = start(Settings(data_dir=tmp_path / "again"))

    assert served(again, before) == before
    assert findings(again) == []
    assert again.push(make_archive(seed=999), "after").status_code == 201
    again.database.close()


def test_a_hub_moves_from_sqlite_to_postgresql_and_back(
    tmp_path: Path, clean_postgres: str, embedded: Settings
) -> None:
    old = start(embedded)
    pushed, record = push(old), old.get("/namespaces/demo/audit", headers=old.headers("demo")).json()
    backup.back_up(*parts(old), tmp_path / "one", is_portable=True)
    old.database.close()

    postgres = Settings(data_dir=tmp_path / "p", database_url=clean_postgres)
    backup.restore(tmp_path / "one", postgres)
    hub = start(postgres)
    assert served(hub, pushed) == pushed
    assert len(hub.get("/adapters?search=adapter").json()["items"]) == len(pushed)
    assert findings(hub) == []
    pushed |= {r["ref"]: r["digest"] for r in [hub.push(make_archive(seed=7), "adapter-7").json()]}
    backup.back_up(*parts(hub), tmp_path / "two")
    hub.database.close()

    backup.restore(tmp_path / "two", Settings(data_dir=tmp_path / "again"))
    again = start(Settings(data_dir=tmp_path / "again"))
    assert served(again, pushed) == pushed
    kept = again.get("/namespaces/demo/audit", headers=again.headers("demo")).json()["items"]
    assert kept[-len(record["items"]) :] == record["items"]
    assert findings(again) == []
    again.database.close()


def test_a_backup_is_made_before_an_upgrade_by_the_release_that_comes(sqlite_hub: Hub, tmp_path: Path) -> None:
    data_dir = sqlite_hub.app.state.services.settings.data_dir
    with sqlite_hub.database.writing() as session:
        session.execute(text("UPDATE alembic_version SET version_num = '0028'"))

    copied = CliRunner().invoke(admin, ["backup", str(tmp_path / "copy"), "--data", str(data_dir)])
    spelled = CliRunner().invoke(admin, ["backup", "--portable", str(tmp_path / "rows"), "--data", str(data_dir)])

    assert copied.exit_code == 0, copied.output
    assert backup.check(tmp_path / "copy").revision == "0028"
    assert (spelled.exit_code, "vera-hub migrate" in spelled.output) == (3, True)
    assert not (tmp_path / "rows").exists()


def test_objects_travel_with_the_backup(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path / "hub", blob_url=f"file://{tmp_path}/objects")
    hub = start(settings)
    sha256 = keep_object(hub, LARGE)
    backup.back_up(*parts(hub), tmp_path / "copy")
    hub.database.close()

    with pytest.raises(Invalid, match="VERA_HUB_BLOB_URL"):
        backup.restore(tmp_path / "copy", Settings(data_dir=tmp_path / "no"))
    fresh = Settings(data_dir=tmp_path / "again", blob_url=f"file://{tmp_path}/elsewhere")
    backup.restore(tmp_path / "copy", fresh)

    assert ObjectBlobs.from_url(f"file://{tmp_path}/elsewhere").get(sha256) == LARGE


def test_a_backup_is_never_restored_over_a_hub(sqlite_hub: Hub, tmp_path: Path) -> None:
    push(sqlite_hub)
    backup.back_up(*parts(sqlite_hub), tmp_path / "copy")
    settings = sqlite_hub.app.state.services.settings
    before = (settings.data_dir / DATABASE_FILE).stat().st_ino

    with pytest.raises(Conflict, match="already"):
        backup.restore(tmp_path / "copy", settings)

    assert (settings.data_dir / DATABASE_FILE).stat().st_ino == before
    with pytest.raises(Conflict, match="name a new folder"):
        backup.back_up(*parts(sqlite_hub), tmp_path / "copy")


@pytest.mark.parametrize("is_portable", [False, True])
def test_a_backup_is_not_restored_beside_the_log_that_a_killed_hub_left(
    sqlite_hub: Hub, tmp_path: Path, *, is_portable: bool
) -> None:
    backup.back_up(*parts(sqlite_hub), tmp_path / "copy", is_portable=is_portable)
    push(sqlite_hub)  # which is in the log, and not in the copy
    home = sqlite_hub.app.state.services.settings.data_dir
    (tmp_path / "moved").mkdir()
    log = tmp_path / "moved" / f"{DATABASE_FILE}-wal"
    shutil.copyfile(home / log.name, log)
    settings = Settings(data_dir=tmp_path / "moved")

    with pytest.raises(Conflict, match="the log of a database that is not beside it"):
        backup.restore(tmp_path / "copy", settings)

    assert log.stat().st_size > 0, "it may hold what is nowhere else"
    log.unlink()
    backup.restore(tmp_path / "copy", settings)
    restored = start(settings)
    assert restored.contents["adapters"] == 0
    restored.database.close()


@pytest.mark.parametrize("is_portable", [False, True])
def test_a_damaged_backup_is_refused_and_leaves_nothing(sqlite_hub: Hub, tmp_path: Path, *, is_portable: bool) -> None:
    push(sqlite_hub, 1)
    contents = backup.back_up(*parts(sqlite_hub), tmp_path / "copy", is_portable=is_portable)
    victim = tmp_path / "copy" / max(contents.files, key=lambda path: (tmp_path / "copy" / path).stat().st_size)
    damaged = bytearray(victim.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    victim.write_bytes(damaged)

    with pytest.raises(Invalid, match="is damaged"):
        backup.restore(tmp_path / "copy", Settings(data_dir=tmp_path / "again"))

    assert not (tmp_path / "again").exists()


def test_a_restore_for_which_there_is_no_room_leaves_nothing(
    sqlite_hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backup.back_up(*parts(sqlite_hub), tmp_path / "copy")

    def full(_: Path, target: Path) -> None:
        target.write_bytes(b"the first half")
        raise OSError(ENOSPC, "No space left on device")

    monkeypatch.setattr("shutil.copyfile", full)
    with pytest.raises(OSError, match="No space left"):
        backup.restore(tmp_path / "copy", Settings(data_dir=tmp_path / "again"))

    assert [each.name for each in (tmp_path / "again").iterdir()] == ["hub.lock"]


def test_what_a_killed_restore_left_goes_when_somebody_has_the_folder_to_himself(tmp_path: Path) -> None:
    copied = [fresh_beside(tmp_path / name) for name in (DATABASE_FILE, "hub-schema-0027.db")]
    left = [*copied, tmp_path / f"{copied[1].name}-journal"]
    others = [tmp_path / name for name in ("hub-schema-0027.db", ".worker-token.4711", ".hub.db", ".hub.db.old")]
    for each in (*left, *others):
        each.write_bytes(b"...")

    with sole_use_of(tmp_path):
        assert not [each for each in left if each.exists()]
        assert [each for each in others if each.exists()] == others
        left[0].write_bytes(b"whoever has the folder restores just now")
        with pytest.raises(StartRefused), sole_use_of(tmp_path):
            pass
        assert left[0].exists()


# -- fsck -----------------------------------------------------------------------------------------


def keep_object(hub: Hub, data: bytes) -> str:
    """A blob in the object store that nothing refers to."""
    database, objects = parts(hub)
    outside = blobs.put_large(objects, [data])
    with database.writing() as session:
        return blobs.record(session, data, outside)


@pytest.fixture
def stored(tmp_path: Path, embedded: Settings) -> Hub:
    """A hub with an object store."""
    return start(Settings(data_dir=embedded.data_dir, blob_url=f"file://{tmp_path}/objects"))


def test_a_sound_hub_has_no_findings(hub: Hub) -> None:
    push(hub)
    assert findings(hub) == []


def spoil_data(hub: Hub) -> tuple[str, str]:
    with hub.database.writing() as session:
        sha256 = session.scalars(select(Blob.sha256).where(Blob.size_bytes > 10)).first()
        data = session.scalars(select(Blob.data).where(Blob.sha256 == sha256)).one()
        session.execute(update(Blob).where(Blob.sha256 == sha256).values(data=data[:-1] + bytes([data[-1] ^ 1])))
    return "corrupt", f"blob {sha256}"


def spoil_digest(hub: Hub) -> tuple[str, str]:
    with hub.database.writing() as session:
        session.execute(update(Version).values(digest="sha256:" + "0" * 64))
    return "corrupt", "v1 of adapter 1"


def lose_weights(hub: Hub) -> tuple[str, str]:
    with hub.database.writing() as session:
        session.execute(delete(VersionFile).where(VersionFile.path == WEIGHTS_FILE))
        drop_orphans(session)
    return "missing", "v1 of adapter 1"


def exchange_files(hub: Hub) -> tuple[str, str]:
    with hub.database.writing() as session:
        card = select(VersionFile.sha256).where(VersionFile.path == CARD_FILE).scalar_subquery()
        session.execute(update(VersionFile).where(VersionFile.path == WEIGHTS_FILE).values(sha256=card))
        drop_orphans(session)
    return "corrupt", "v1 of adapter 1"


def drop_orphans(session: Session) -> None:
    """Takes away what nothing refers to any more, so that it is no finding of its own."""
    session.execute(delete(Blob).where(Blob.sha256.not_in(select(VersionFile.sha256))))


def point_nowhere(hub: Hub) -> tuple[str, str]:
    with hub.database.writing() as session:
        session.execute(update(Adapter).values(latest_number=9))
    return "corrupt", "adapter 1"


def count_too_few(hub: Hub) -> tuple[str, str]:
    with hub.database.writing() as session:
        session.execute(update(Adapter).values(last_number=0))
    return "corrupt", "adapter 1"


def spoil_record(hub: Hub) -> tuple[str, str]:
    with hub.database.writing() as session:
        session.execute(update(AuditEvent).where(AuditEvent.chain == "demo").values(actor="eve"))
    return "corrupt", "record"


def leave_a_blob(hub: Hub) -> tuple[str, str]:
    with hub.database.writing() as session:
        sha256 = blobs.record(session, b"nobody's", {})
    return "orphan", f"blob {sha256}"


@pytest.mark.parametrize(
    "spoil",
    [
        spoil_data,
        spoil_digest,
        spoil_record,
        leave_a_blob,
        lose_weights,
        exchange_files,
        point_nowhere,
        count_too_few,
    ],
)
def test_each_thing_that_is_wrong_is_found(hub: Hub, spoil: Callable[[Hub], tuple[str, str]]) -> None:
    push(hub, 1)
    assert [spoil(hub)] == findings(hub)


def test_what_is_wrong_with_objects_is_found(stored: Hub, tmp_path: Path) -> None:
    whole, gone, damaged = (keep_object(stored, LARGE + bytes([number])) for number in range(3))
    (tmp_path / "objects/blobs" / gone[:2] / gone).unlink()
    (tmp_path / "objects/blobs" / damaged[:2] / damaged).write_bytes(b"other")
    _, objects = parts(stored)
    assert objects is not None
    stray = objects.put(LARGE + b"stray")

    found = findings(stored)

    assert ("missing", f"blob {gone}") in found
    assert ("corrupt", f"blob {damaged}") in found
    assert ("orphan", f"object {stray}") in found
    assert [what for kind, what in found if whole in what] == [f"blob {whole}"]  # needed by nothing, and sound
    stored.database.close()


def test_a_script_sees_by_the_exit_status_that_something_is_wrong(sqlite_hub: Hub) -> None:
    push(sqlite_hub, 1)
    data_dir = sqlite_hub.app.state.services.settings.data_dir
    ok = CliRunner().invoke(admin, ["fsck", "--data", str(data_dir), "--json"])
    assert (ok.exit_code, json.loads(ok.stdout)) == (0, [])
    spoil_record(sqlite_hub)

    wrong = CliRunner().invoke(admin, ["fsck", "--data", str(data_dir)])

    assert wrong.exit_code == 1
    assert "The record of demo was changed at event 1" in wrong.stdout


# -- gc -------------------------------------------------------------------------------------------


def age(hub: Hub) -> None:
    with hub.database.writing() as session:
        session.execute(update(Blob).values(created_at=LONG_AGO))


def test_an_operator_is_told_why_the_object_store_refuses(stored: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    keep_object(stored, LARGE)
    for name, value in {"AWS_ENDPOINT": "http://127.0.0.1:9", "AWS_ALLOW_HTTP": "true", "AWS_REGION": "here"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_SKIP_SIGNATURE", "true")
    monkeypatch.setenv("VERA_HUB_BLOB_URL", "s3://bucket/blobs")

    done = CliRunner().invoke(admin, ["fsck", "--data", str(stored.app.state.services.settings.data_dir)])

    assert (done.exit_code, "blob store does not answer" in done.output) == (1, True)
    assert "What was said:" in done.output
    assert "http://127.0.0.1:9/bucket/blobs/" in done.output


def test_gc_takes_what_nothing_needs_and_nothing_else(hub: Hub) -> None:
    pushed = push(hub)
    worker = hub.worker()
    while (job := worker.claim()) is not None:
        assert worker.finish(job).status_code == 204
    with hub.database.writing() as session:
        blobs.record(session, b"nobody's", {})
    age(hub)
    with hub.database.writing() as session:
        blobs.record(session, b"just put", {})

    assert collect(*parts(hub), is_rehearsal=True).blobs == 1
    assert collect(*parts(hub)).blobs == 1
    assert collect(*parts(hub)).blobs == 0

    assert served(hub, pushed) == pushed
    assert [kind for kind, _ in findings(hub)] == ["orphan"]  # what was just put


def test_gc_takes_objects_with_and_without_a_row(stored: Hub, tmp_path: Path) -> None:
    database, objects = parts(stored)
    assert objects is not None
    keep_object(stored, LARGE)
    age(stored)
    stray, fresh = objects.put(LARGE + b"1"), objects.put(LARGE + b"2")
    os.utime(tmp_path / "objects/blobs" / stray[:2] / stray, (0, 0))

    assert collect(database, objects, is_rehearsal=True).blobs == 2
    assert collect(database, objects).blobs == 2

    assert [each.sha256 for each in objects.stored()] == [fresh]
    stored.database.close()


def test_a_push_that_finds_an_object_going_puts_it_again(stored: Hub) -> None:
    """The object was there when the push looked, and gc took it before the push recorded it."""
    database, objects = parts(stored)
    keep_object(stored, LARGE)
    age(stored)
    outside = blobs.put_large(objects, [LARGE])
    assert collect(database, objects).blobs == 1

    with pytest.raises(Unavailable), database.writing() as session:
        blobs.record(session, LARGE, outside)

    later = {sha256: at + timedelta(minutes=2) for sha256, at in blobs.put_large(objects, [LARGE]).items()}
    with database.writing() as session:
        sha256 = blobs.record(session, LARGE, later)
    assert objects is not None
    assert objects.get(sha256) == LARGE
    stored.database.close()


def test_a_gc_that_was_killed_is_finished_by_the_next(stored: Hub) -> None:
    database, objects = parts(stored)
    assert objects is not None
    sha256 = objects.put(LARGE)
    with database.writing() as session:
        session.execute(insert(RemovedObject).values(sha256=sha256, removed_at=None))

    collect(database, objects)

    assert list(objects.stored()) == []
    with database.reading() as session:
        assert session.scalars(select(RemovedObject.removed_at)).one() is not None
    stored.database.close()


def test_gc_leaves_what_a_push_is_using(migrated_postgres: Database, clean_postgres: str) -> None:
    """On PostgreSQL both are at work at once: the push has found the row and has not referred to it yet."""
    database = Database(clean_postgres)
    with database.writing() as session:
        sha256 = blobs.record(session, b"shared", {})
        session.execute(update(Blob).values(created_at=LONG_AGO))
    with database.writing() as push_session:
        blob_rows.insert(push_session, sha256, 6, b"shared", at=LONG_AGO)
        assert collect(database, None).blobs == 0
    assert collect(database, None).blobs == 1
    database.close()


def keep_pair(hub: Hub, seed: int) -> str:
    """A stored pair of demo's that no version uses."""
    archive = make_stored(pair_seed=seed)
    assert archive.projection is not None
    data, digest = b"".join(bytes_of_pair(archive.projection)), archive.manifest.projection_digest
    answer = hub.client.put(f"/api/v1/projections/{digest}", content=data, headers=hub.headers())
    assert answer.status_code in (200, 201), answer.text
    return digest


def pairs(hub: Hub) -> set[str]:
    with hub.database.reading() as session:
        return set(session.scalars(select(Projection.digest)))


def test_gc_takes_pairs_that_no_version_uses(hub: Hub) -> None:
    hub.register_base()
    used, unused, fresh = (keep_pair(hub, seed) for seed in (1, 2, 3))
    assert hub.push(make_stored(pair_seed=1)).status_code == 201
    age(hub)
    with hub.database.writing() as session:
        session.execute(update(Projection).where(Projection.digest != fresh).values(created_at=LONG_AGO))

    expected = collect(*parts(hub), is_rehearsal=True)
    assert collect(*parts(hub)) == expected
    assert collect(*parts(hub)).blobs == 0

    assert expected.blobs == 1
    assert pairs(hub) == {used, fresh}
    assert hub.push(make_stored(pair_seed=1)).status_code == 200
    missing = hub.push(make_stored(pair_seed=2), "other")
    assert (missing.status_code, missing.json()["code"]) == (422, "PROJECTION_MISSING")
    assert keep_pair(hub, 2) == unused
    assert hub.push(make_stored(pair_seed=2), "other").status_code == 201


def test_gc_goes_on_until_nothing_is_left_however_little_it_takes_at_once(
    hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    for seed in (1, 2, 3):
        keep_pair(hub, seed)
    age(hub)
    with hub.database.writing() as session:
        session.execute(update(Projection).values(created_at=LONG_AGO))
    monkeypatch.setattr(collecting, "_AT_ONCE", 1)

    expected = collect(*parts(hub), is_rehearsal=True)

    assert expected.blobs == 3
    assert collect(*parts(hub)) == expected
    assert pairs(hub) == set()


def test_a_pair_that_was_sent_again_is_as_good_as_new(hub: Hub) -> None:
    digest = keep_pair(hub, 1)
    with hub.database.writing() as session:
        session.execute(update(Projection).values(created_at=LONG_AGO))
    keep_pair(hub, 1)

    collect(*parts(hub))

    assert pairs(hub) == {digest}


def test_gc_leaves_a_pair_that_a_push_is_using(migrated_postgres: Database, clean_postgres: str) -> None:
    """A push holds the pair, and gc looks at it meanwhile: it is not there for gc."""
    with migrated_postgres.writing() as session:
        account = accounts.ensure_user(session, "demo")
        values = {"size_bytes": 4, "created_by_id": account, "created_at": LONG_AGO}
        session.execute(insert(Projection), [{"digest": f"sha256:{each * 64}", **values} for each in "ab"])
    with migrated_postgres.writing() as session:
        assert projections.hold(session, f"sha256:{'a' * 64}")
        collect(migrated_postgres, None)
    with migrated_postgres.reading() as session:
        assert list(session.scalars(select(Projection.digest))) == [f"sha256:{'a' * 64}"]


# -- The command ----------------------------------------------------------------------------------


def test_an_operator_copies_and_restores_with_a_command(sqlite_hub: Hub, tmp_path: Path) -> None:
    push(sqlite_hub, 1)
    data_dir = sqlite_hub.app.state.services.settings.data_dir
    copy, again = tmp_path / "copy", tmp_path / "again"

    done = CliRunner().invoke(admin, ["backup", str(copy), "--data", str(data_dir)])
    assert done.exit_code == 0, done.output
    restored = CliRunner().invoke(admin, ["restore", str(copy), "--data", str(again)])
    assert restored.exit_code == 0, restored.output
    twice = CliRunner().invoke(admin, ["restore", str(copy), "--data", str(again)])
    assert (twice.exit_code, "never restored over one" in twice.output) == (1, True)

    assert (again / DATABASE_FILE).stat().st_mode & 0o777 == 0o600
    nothing = CliRunner().invoke(admin, ["gc", "--data", str(tmp_path / "nowhere")])
    assert (nothing.exit_code, "There is no hub in" in nothing.output) == (1, True)
    assert f"`vera-hub migrate --data {tmp_path / 'nowhere'}`" in nothing.output
    cleared = CliRunner().invoke(admin, ["gc", "--data", str(again)])
    assert cleared.stdout == "0 files, 0 bytes, are gone.\n"
