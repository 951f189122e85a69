"""Sessions that read and sessions that write, and the database's refusals in the hub's own words."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

from sqlalchemy import Connection, Engine, create_engine, event, func, select
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.orm import Session
from sqlalchemy.pool import ConnectionPoolEntry

from hub.db.prepared import driver_of, write_through_driver
from hub.db.together import Together
from hub.db.turns import Turns
from hub.errors import HubError, StorageFull, Unavailable

log = logging.getLogger(__name__)

Result = TypeVar("Result")
BUSY_TIMEOUT_S = 10
_PAGE_BYTES = 4096
_PAGE_CACHE_KIB = 1024
_FULL = "The hub's storage is full: nothing was kept. Free some space there and try again; reading goes on."
_BUSY = "The hub's database is busy: try again in a moment."
_SILENT_CODE = "DB_UNAVAILABLE"
_SILENT = "The hub's database does not answer: try again in a moment."
# https://www.sqlite.org/rescode.html
_SQLITE_ERROR, _SQLITE_BUSY, _SQLITE_LOCKED, _SQLITE_FULL = 1, 5, 6, 13
# https://www.postgresql.org/docs/current/errcodes-appendix.html: disk_full, and what passes when tried again.
_POSTGRES_FULL = "53100"
_POSTGRES_BUSY = ("40001", "40P01", "55P03", "57014")


class Database:
    """The engine and its two kinds of session. One per process; `close` it at the end."""

    def __init__(self, url: str, *, max_bytes: int | None = None) -> None:
        self.engine = _engine(url, max_bytes)
        self._readers = self.engine.execution_options(**({} if self.is_sqlite else _READ_ONLY))
        self._writers = self.engine.execution_options(writes=True)
        self._writer: Connection | None = None
        # What sessions carry for those who use them, see `sign_with`.
        self._info: dict[str, object] = {}
        self._watch: sqlite3.Connection | None = None
        self._together = Together(self.writing, self._own)
        self._turns = Turns(Path(f"{self.engine.url.database}-turn")) if self.is_sqlite else None

    def sign_with(self, key: bytes) -> None:
        """From now on `session.info["signing_key"]` is this key."""
        self._info["signing_key"] = key

    def share_mirrored(self) -> None:
        """From now on everybody who signs in sees private adapters of mirrored namespaces."""
        self._info["shares_mirrored"] = True

    @contextmanager
    def reading(self) -> Iterator[Session]:
        """A session that reads one snapshot of the data: what was committed when its first statement began."""
        with _in_our_words(), Session(self._readers, autoflush=False, info=self._info) as session:
            yield session

    def require_answer(self) -> None:
        """Raises Unavailable while the database does not answer, or has no connection left."""
        with self.reading() as session:
            session.execute(select(1))

    @contextmanager
    def writing(self) -> Iterator[Session]:
        """A session whose work is committed at the end, or leaves no trace when anything is raised."""
        with (
            self._in_turn(),
            _in_our_words(),
            self._left_without_transaction(),
            Session(self._writes_through(), info=self._info) as session,
            session.begin(),
        ):
            if self.is_sqlite:
                write_through_driver(session)
            yield session

    def write(self, work: Callable[[Session], Result]) -> Result:
        """What `work` gives in a session of `writing`. On SQLite it may share the transaction with others that wait, to none of
        which it matters what another one raises."""
        if not self.is_sqlite:
            with self.writing() as session:
                return work(session)
        try:
            return self._together.write(work, BUSY_TIMEOUT_S)
        except TimeoutError as error:
            raise Unavailable(_BUSY, code="DB_BUSY") from error

    @contextmanager
    def _own(self, shared: Session) -> Iterator[Session]:
        """A session in the transaction of another, which leaves no trace when anything is raised."""
        driver = driver_of(shared)
        driver.execute("SAVEPOINT own")
        try:
            with _in_our_words(), self._joining(shared) as session:
                write_through_driver(session)
                yield session
                session.flush()
        except BaseException:
            if driver.in_transaction:
                driver.execute("ROLLBACK TO own")
                driver.execute("RELEASE own")
            raise
        driver.execute("RELEASE own")

    def _joining(self, shared: Session) -> Session:
        return Session(shared.connection(), info=self._info, join_transaction_mode="rollback_only")

    def _writes_through(self) -> Engine | Connection:
        """Of SQLite one connection, whoever's turn it is: others would read again what that one has just written, and has
        in its cache."""
        if not self.is_sqlite:
            return self._writers
        if self._writer is None:
            self._writer = self._writers.connect()
        return self._writer

    @contextmanager
    def _left_without_transaction(self) -> Iterator[None]:
        """After a commit that SQLite refused, its transaction goes on, and SQLAlchemy takes it for ended: on a connection that stays
        it would be in the way of the next."""
        try:
            yield
        finally:
            driver = self._writer.connection.driver_connection if self._writer is not None else None
            if driver is not None and driver.in_transaction:
                driver.rollback()

    @contextmanager
    def _in_turn(self) -> Iterator[None]:
        with ExitStack() as held:
            if self._turns is not None:
                try:
                    held.enter_context(self._turns.one(BUSY_TIMEOUT_S))
                except TimeoutError as error:
                    raise Unavailable(_BUSY, code="DB_BUSY") from error
            yield

    def stamp(self) -> int | None:
        """A number that is another one as soon as anybody has committed anything; None where only a query could
        tell. Takes microseconds. To be called from one thread at a time."""
        if not self.is_sqlite:
            return None
        if self._watch is None:
            # A connection that never writes: the number is about the commits of all others.
            self._watch = sqlite3.connect(str(self.engine.url.database), isolation_level=None, check_same_thread=False)
        number: int = self._watch.execute("PRAGMA data_version").fetchone()[0]
        return number

    @property
    def is_sqlite(self) -> bool:
        return self.engine.dialect.name == "sqlite"

    def close(self) -> None:
        """Waits for who writes, as long as a turn may be waited for."""
        with suppress(Unavailable), self._in_turn():
            if self._writer is not None:
                self._writer.close()
                self._writer = None
        if self._watch is not None:
            self._watch.close()
            self._watch = None
        if self._turns is not None:
            self._turns.close()
        self.engine.dispose()


# Made once: whatever changes something asks for it, some of it several times.
_NOW = select(func.clock_timestamp())


def now(session: Session) -> datetime:
    """The time that leases and records go by: the database's, so that replicas agree. SQLite's is this process's."""
    if session.get_bind().dialect.name == "sqlite":
        return datetime.now(UTC)
    moment = session.scalar(_NOW)
    assert isinstance(moment, datetime)
    return moment.astimezone(UTC)


# Of PostgreSQL, which else shows each statement what is committed as it begins: an answer is of several. It refuses a write
# in such a session; SQLite has no such switch per transaction.
_READ_ONLY: dict[str, object] = {"postgresql_readonly": True, "isolation_level": "REPEATABLE READ"}


def _engine(url: str, max_bytes: int | None) -> Engine:
    parsed = make_url(url)
    if parsed.drivername in ("postgresql", "postgres"):
        parsed = parsed.set(drivername="postgresql+psycopg")
    if parsed.get_backend_name() == "sqlite":
        engine = create_engine(parsed, pool_size=20, max_overflow=40, pool_timeout=BUSY_TIMEOUT_S, hide_parameters=True)
        _prepare_sqlite(engine, max_bytes)
        return engine
    options = f"-c statement_timeout={BUSY_TIMEOUT_S}s -c lock_timeout={BUSY_TIMEOUT_S}s"
    return create_engine(
        parsed,
        pool_size=10,
        max_overflow=20,
        pool_timeout=BUSY_TIMEOUT_S,
        pool_pre_ping=True,
        hide_parameters=True,  # secrets are among them, and errors are logged
        connect_args={"options": options},
    )


def _prepare_sqlite(engine: Engine, max_bytes: int | None) -> None:
    def connected(connection: sqlite3.Connection, _: ConnectionPoolEntry) -> None:
        connection.isolation_level = None  # we begin transactions ourselves, see below
        for pragma in (
            f"busy_timeout = {BUSY_TIMEOUT_S * 1000}",
            "synchronous = FULL",  # what was answered survives a power cut
            "foreign_keys = ON",
            f"cache_size = -{_PAGE_CACHE_KIB}",
        ):
            connection.execute(f"PRAGMA {pragma}")
        _require_wal(connection)
        if max_bytes is not None:
            connection.execute(f"PRAGMA max_page_count = {max_bytes // _PAGE_BYTES}")

    def begun(connection: Connection) -> None:
        # A writer takes its place in the queue at once: a reader that turns writer can only fail.
        writes = connection.get_execution_options().get("writes")
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    event.listen(engine, "connect", connected)
    event.listen(engine, "begin", begun)


def _require_wal(connection: sqlite3.Connection) -> None:
    """Raises Unavailable where readers would be in the way of who writes."""
    (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
    if mode not in ("wal", "memory"):
        (_, _, file) = connection.execute("PRAGMA database_list").fetchone()
        raise Unavailable(
            f"SQLite keeps no write-ahead log beside {file} (it answers journal_mode {mode!r}): put the hub's data on a disk of this "
            "machine, not on a network share, or use PostgreSQL.",
            code="DB_UNAVAILABLE",
        )


@contextmanager
def _in_our_words() -> Iterator[None]:
    try:
        yield
    except PoolTimeout as error:
        raise Unavailable(_BUSY, code="DB_BUSY") from error
    except (DBAPIError, sqlite3.Error) as error:  # the driver's own come from what is `prepared`
        translated = _translated(error)
        if translated is None:
            raise
        if translated.code == _SILENT_CODE:
            log.warning("the database does not answer", extra={"said": _said_by(error)})
        raise translated from error


def _said_by(error: DBAPIError | sqlite3.Error) -> str:
    """The driver's own words: SQLAlchemy's hold the statement and what was to be written."""
    original = error.orig if isinstance(error, DBAPIError) else error
    return " ".join(str(original).split())


def _translated(error: DBAPIError | sqlite3.Error) -> HubError | None:
    """What the database means, or None when the statement itself was wrong (which is our mistake)."""
    original = error.orig if isinstance(error, DBAPIError) else error
    if isinstance(original, sqlite3.Error):
        code = getattr(original, "sqlite_errorcode", 0) & 0xFF
        if code == _SQLITE_FULL:
            return StorageFull(_FULL)
        if code in (_SQLITE_BUSY, _SQLITE_LOCKED):
            return Unavailable(_BUSY, code="DB_BUSY")
        is_outage = isinstance(original, sqlite3.OperationalError) and code != _SQLITE_ERROR
        return Unavailable(_SILENT, code=_SILENT_CODE) if is_outage else None
    state = getattr(original, "sqlstate", None) or ""
    if state == _POSTGRES_FULL:
        return StorageFull(_FULL)
    if state in _POSTGRES_BUSY:
        return Unavailable(_BUSY, code="DB_BUSY")
    is_outage = isinstance(error, OperationalError | InterfaceError) or (
        isinstance(error, DBAPIError) and error.connection_invalidated
    )
    return Unavailable(_SILENT, code=_SILENT_CODE) if is_outage else None
