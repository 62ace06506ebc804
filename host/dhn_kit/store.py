"""Keeps collected samples in one SQLite file that survives the collector's death."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import sqlite3
import struct
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt

from dhn_kit.errors import DhnError
from dhn_kit.samples import Reason, Sample

#: "dhns" in ASCII: tells a sample store from any other SQLite file.
APPLICATION_ID = 0x64686E73
SCHEMA_VERSION = 2
#: How long a writer waits for another one before the user is told.
LOCK_TIMEOUT_S = 10.0
UNTAGGED = 0xFFFFFFFF

SCHEMA = """
CREATE TABLE sessions (
    id INTEGER PRIMARY KEY,
    board TEXT NOT NULL,
    model_hash TEXT NOT NULL,
    bundle_version INTEGER NOT NULL,
    started REAL NOT NULL
);
CREATE TABLE samples (
    session INTEGER NOT NULL REFERENCES sessions(id),
    number INTEGER NOT NULL,
    tag INTEGER NOT NULL,
    reason INTEGER NOT NULL,
    propensity REAL NOT NULL,
    full_run INTEGER NOT NULL,
    operating_point INTEGER NOT NULL,
    bundle_version INTEGER NOT NULL,
    exit_hook INTEGER NOT NULL,
    output BLOB NOT NULL,
    decisions BLOB NOT NULL,
    scores BLOB NOT NULL,
    features BLOB NOT NULL,
    ticks BLOB NOT NULL,
    input BLOB,
    env BLOB,
    PRIMARY KEY (session, number)
) WITHOUT ROWID;
CREATE TABLE gaps (
    session INTEGER NOT NULL REFERENCES sessions(id),
    after_number INTEGER NOT NULL,
    lost INTEGER NOT NULL
);
CREATE TABLE labels (tag INTEGER PRIMARY KEY, label INTEGER NOT NULL);
"""

#: [v] turns a store of version v into one of version v + 1.
MIGRATIONS = ("", "ALTER TABLE samples ADD COLUMN env BLOB")

INSERT = (
    "INSERT OR IGNORE INTO samples (session, number, tag, reason, propensity, full_run, operating_point,"
    " bundle_version, exit_hook, output, decisions, scores, features, ticks, input, env)"
    " VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)"
)
SELECT = (
    "SELECT number, samples.tag, reason, propensity, full_run, operating_point, samples.bundle_version, exit_hook,"
    " output, decisions, scores, features, ticks, input, env, label,"
    " samples.session"
    " FROM samples JOIN sessions ON sessions.id = samples.session LEFT JOIN labels ON labels.tag = samples.tag"
    " WHERE model_hash = ? ORDER BY samples.session, number"
)


class SampleStore:
    """Sessions of one or more boards and the samples that came from them.

    What ``add`` returned from is on disk: one transaction per call, write-ahead log, synchronised fully.
    Raises DhnError where the file is no sample store, is of another version or stays locked.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        with self._user_errors():
            self._db = sqlite3.connect(self.path, timeout=LOCK_TIMEOUT_S, isolation_level=None)
            try:
                self._open()
            except BaseException:
                self._db.close()
                raise

    def __enter__(self) -> SampleStore:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        self._db.close()

    def session(self, board: str, model_hash: str, bundle_version: int = 0) -> int:
        """Opens a session and returns its number. Sample numbers must be unique within one."""
        with self._transaction():
            row = self._db.execute(
                "INSERT INTO sessions (board, model_hash, bundle_version, started) VALUES (?,?,?,?)",
                (board, model_hash, bundle_version, time.time()),
            )
        assert row.lastrowid is not None
        return row.lastrowid

    def add(self, session: int, samples: Iterable[Sample]) -> int:
        """Stores a batch in one transaction and returns how many were new.

        A sample whose (session, number) is there already is ignored, so a batch may be sent again.
        """
        with self._transaction():
            before = self._db.total_changes
            self._db.executemany(INSERT, (_row(session, s) for s in samples))
            return self._db.total_changes - before

    def add_gap(self, session: int, after_number: int, lost: int) -> None:
        """Notes that `lost` samples after that number never arrived (-1: before the first)."""
        with self._transaction():
            self._db.execute("INSERT INTO gaps VALUES (?,?,?)", (session, after_number, lost))

    def lost(self, model_hash: str) -> int:
        """Samples that boards with this model sent and nobody received.

        Per session what the collector noted, or what the samples' numbers leave out where that is more.
        """
        query = (
            "SELECT COALESCE(SUM(MAX(COALESCE(noted, 0), COALESCE(holes, 0))), 0) FROM sessions"
            " LEFT JOIN (SELECT session, SUM(lost) AS noted FROM gaps GROUP BY session) AS g ON g.session = id"
            " LEFT JOIN (SELECT session, MAX(number) - MIN(number) + 1 - COUNT(*) AS holes FROM samples"
            " GROUP BY session) AS s ON s.session = id WHERE model_hash = ?"
        )
        with self._user_errors():
            return int(self._db.execute(query, (model_hash,)).fetchone()[0])

    def set_labels(self, labels: Mapping[int, int]) -> None:
        """Joins true classes to played inputs by tag; a later label replaces an earlier one."""
        with self._transaction():
            self._db.executemany("INSERT OR REPLACE INTO labels VALUES (?,?)", labels.items())

    def load(self, model_hash: str, reasons: Reason | None = None) -> list[Sample]:
        """The samples of one model, oldest session first; with `reasons` those kept for any of them.

        Raises DhnError when the store holds only other models' samples.
        """
        with self._user_errors():
            self._check_model(model_hash)
            rows = self._db.execute(SELECT, (model_hash,)).fetchall()
            samples = [_sample(row) for row in rows]
        return samples if reasons is None else [s for s in samples if s.reason & reasons]

    def counts(self, model_hash: str) -> dict[str, int]:
        """Samples per board of one model."""
        query = "SELECT board, COUNT(*) FROM samples JOIN sessions ON id = session WHERE model_hash = ? GROUP BY board"
        with self._user_errors():
            return {str(board): int(n) for board, n in self._db.execute(query, (model_hash,))}

    def _check_model(self, model_hash: str) -> None:
        hashes = [str(row[0]) for row in self._db.execute("SELECT DISTINCT model_hash FROM sessions")]
        if hashes and model_hash not in hashes:
            raise DhnError(
                f"{self.path} holds samples of model {hashes[0][:12]}, not of {model_hash[:12]}: "
                "name the store that was collected with this pack, or collect again"
            )

    def _open(self) -> None:
        empty = not self._db.execute("SELECT 1 FROM sqlite_master").fetchone()
        application = self._db.execute("PRAGMA application_id").fetchone()[0]
        version = self._db.execute("PRAGMA user_version").fetchone()[0]
        if not empty and application != APPLICATION_ID:
            raise DhnError(f"{self.path} is an SQLite file but no sample store: choose another file name")
        if not empty and not 0 < version <= SCHEMA_VERSION:
            raise DhnError(
                f"{self.path} is a sample store of version {version}, this program reads up to {SCHEMA_VERSION}: "
                "collect into a new file"
            )
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = FULL")
        self._db.execute("PRAGMA foreign_keys = ON")
        if empty:
            self._create()
        else:
            self._migrate()

    def _create(self) -> None:
        with self._transaction():
            # Another process may have been quicker between the look and the lock.
            if self._db.execute("SELECT 1 FROM sqlite_master").fetchone():
                return
            for statement in SCHEMA.split(";"):
                self._db.execute(statement)
            self._db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            self._db.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")

    def _migrate(self) -> None:
        """Brings the store of an older program up to date; what it lacks is empty."""
        with self._transaction():
            version = self._db.execute("PRAGMA user_version").fetchone()[0]
            for statement in MIGRATIONS[version:]:
                self._db.execute(statement)
            self._db.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with self._user_errors():
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")

    @contextmanager
    def _user_errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.OperationalError as error:
            raise DhnError(f"sample store {self.path}: {error}; check path, free space and other writers") from error
        except sqlite3.IntegrityError as error:
            raise DhnError(f"sample store {self.path}: {error}; open a session before adding to it") from error
        except sqlite3.DatabaseError as error:
            raise DhnError(f"{self.path} is no sample store ({error}): choose another file name") from error


def _row(session: int, s: Sample) -> tuple[Any, ...]:
    return (
        session,
        s.number,
        s.tag,
        int(s.reason),
        s.propensity,
        int(s.full_run),
        s.operating_point,
        s.bundle_version,
        s.exit_hook,
        _pack_arrays([s.output]),
        _pack_ints(s.decisions),
        _pack_ints(s.scores),
        _pack_arrays(s.features),
        _pack_ints(s.ticks),
        None if s.input is None else _pack_arrays([s.input]),
        struct.pack(f"<{len(s.env)}b", *s.env) if s.env else None,
    )


def _sample(row: tuple[Any, ...]) -> Sample:
    output = _unpack_arrays(row[8])[0]
    assert output is not None
    return Sample(
        number=row[0],
        tag=row[1],
        reason=Reason(row[2]),
        propensity=row[3],
        full_run=bool(row[4]),
        operating_point=row[5],
        bundle_version=row[6],
        exit_hook=row[7],
        output=output,
        decisions=_unpack_ints(row[9]),
        scores=_unpack_ints(row[10]),
        features=_unpack_arrays(row[11]),
        ticks=_unpack_ints(row[12]),
        input=None if row[13] is None else _unpack_arrays(row[13])[0],
        env=struct.unpack(f"<{len(row[14])}b", row[14]) if row[14] else (),
        label=None if row[1] == UNTAGGED else row[15],
        session=row[16],
    )


def _pack_ints(values: Sequence[int]) -> bytes:
    return struct.pack(f"<{len(values)}q", *(int(v) for v in values))


def _unpack_ints(blob: bytes) -> tuple[int, ...]:
    return struct.unpack(f"<{len(blob) // 8}q", blob)


def _pack_arrays(arrays: Sequence[npt.NDArray[np.int8] | None]) -> bytes:
    """Each array as its number of dimensions (255: None), the dimensions as u32, the bytes."""
    parts: list[bytes] = []
    for a in arrays:
        if a is None:
            parts.append(b"\xff")
        else:
            parts += [struct.pack(f"<B{a.ndim}I", a.ndim, *a.shape), a.astype(np.int8, copy=False).tobytes()]
    return b"".join(parts)


def _unpack_arrays(blob: bytes) -> list[npt.NDArray[np.int8] | None]:
    arrays: list[npt.NDArray[np.int8] | None] = []
    at = 0
    while at < len(blob):
        ndim, at = blob[at], at + 1
        if ndim == 255:
            arrays.append(None)
            continue
        shape = struct.unpack_from(f"<{ndim}I", blob, at)
        at += 4 * ndim
        size = int(np.prod(shape, dtype=np.int64))
        arrays.append(np.frombuffer(blob, np.int8, size, at).reshape(shape))
        at += size
    return arrays
