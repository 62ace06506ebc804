"""Keeps hook bundles in two files of a MicroPython board and tries each for one start before it stays."""
# SPDX-License-Identifier: Apache-2.0

import binascii
import os
import struct

EMPTY, WRITTEN, PENDING, TRIED, CONFIRMED, REVERTED = range(6)
BUSY, OLD, TOO_BIG, OTHER_MODEL, CLOSED, GAP, DIFFERS, FILE, NOTHING, REFUSED = range(-40, -50, -1)
_ROW = "<BIII16s"
_ROW_BYTES = 29
_NONE = (EMPTY, 0, 0, 0, bytes(16))


class SlotError(Exception):
    """``args[0]`` is the status of docs/link-protocol.md."""


class Slots:
    """States and rules are firmware/app/slots.h's, in three files of ``folder``: hooks0.dhn, hooks1.dhn, hooks.state.

    A change of state is a new file that replaces hooks.state by renaming; where that is two steps (FAT) the new file
    alone counts. The bundle in use is never written. ``room`` is the largest bundle that is taken.
    """

    def __init__(self, model, model_hash, folder=".", room=65536):
        self.model, self.hash, self.folder, self.room = model, bytes(model_hash), folder, room
        self.active = self.target = -1
        self.trial = False
        self.next = self.corrupt = self.reverted = 0
        self._incoming = self._file = None
        self.rows = self._load()
        self._start()

    # -- Files

    def _path(self, name):
        return self.folder + "/" + name

    def _read(self, name):
        try:
            with open(self._path(name), "rb") as file:
                return file.read()
        except OSError:
            return b""

    def _load(self):
        for name in ("hooks.state", "hooks.new"):
            data = self._read(name)
            if len(data) == 2 * _ROW_BYTES + 4 and binascii.crc32(data[:-4]) == struct.unpack("<I", data[-4:])[0]:
                return [struct.unpack(_ROW, data[i * _ROW_BYTES : (i + 1) * _ROW_BYTES]) for i in (0, 1)]
        return [_NONE, _NONE]

    def _set(self, slot, row):
        rows = list(self.rows)
        rows[slot] = row
        data = b"".join([struct.pack(_ROW, *r) for r in rows])
        try:
            with open(self._path("hooks.new"), "wb") as file:
                file.write(data + struct.pack("<I", binascii.crc32(data)))
            os.rename(self._path("hooks.new"), self._path("hooks.state"))
        except OSError:
            raise SlotError(FILE) from None
        self.rows = rows

    def _mark(self, slot, state):
        self._set(slot, (state,) + self.rows[slot][1:])  # noqa: RUF005 - MicroPython has no stars in tuples

    # -- Start

    def _start(self):
        for slot in (0, 1):
            if self.rows[slot][0] == TRIED:
                self._mark(slot, REVERTED)
                self.reverted += 1
        for slot in (0, 1):
            if self.active < 0 and self.rows[slot][0] == PENDING and self.rows[slot][4] == self.hash:
                self._mark(slot, TRIED)
                self.trial = self._attach(slot)
                if not self.trial:
                    self._mark(slot, REVERTED)
                    self.corrupt += 1
        self._attach_confirmed()

    def _bundle(self, row, slot):
        """Its bytes, None where they are not those that were announced."""
        data = self._read(f"hooks{slot}.dhn")
        return data if len(data) == row[2] and binascii.crc32(data) == row[3] else None

    def _attach(self, slot):
        data = self._bundle(self.rows[slot], slot)
        if data is None or not self._takes(data):
            return False
        self.active = slot
        return True

    def _takes(self, data):
        try:
            self.model.attach(data)
        except ValueError:
            return False
        return True

    def _attach_confirmed(self):
        for slot in sorted((0, 1), key=lambda i: -self.rows[i][1]):
            row = self.rows[slot]
            if self.active < 0 and row[0] == CONFIRMED and row[4] == self.hash and not self._attach(slot):
                self.corrupt += 1

    # -- Requests of the host. SlotError where they are not possible.

    def begin(self, version, size, crc, model_hash):
        """The offset to send from."""
        row = (WRITTEN, version, size, crc, bytes(model_hash))
        if self.target < 0 or row != self._incoming:
            self._admit(row)
            self._close()
            slot = 1 if self.active == 0 else 0
            self._set(slot, _NONE)
            self._file = open(self._path(f"hooks{slot}.dhn"), "wb")  # noqa: SIM115 - for the writes to come
            self._incoming, self.target, self.next = row, slot, 0
        return self.next

    def _admit(self, row):
        if self.trial:
            raise SlotError(BUSY)
        if not 0 < row[2] <= self.room:
            raise SlotError(TOO_BIG)
        if row[4] != self.hash:
            raise SlotError(OTHER_MODEL)
        if row[1] <= (self.rows[self.active][1] if self.active >= 0 else 0):
            raise SlotError(OLD)

    def write(self, offset, data):
        """The offset to go on from; what is there already is left."""
        if self.target < 0:
            raise SlotError(CLOSED)
        if offset + len(data) > self._incoming[2]:
            raise SlotError(TOO_BIG)
        if offset > self.next:
            raise SlotError(GAP)
        self._file.write(data[self.next - offset :])
        self.next = max(self.next, offset + len(data))
        return self.next

    def finish(self):
        if self.target < 0:
            raise SlotError(CLOSED)
        if self.next < self._incoming[2]:
            raise SlotError(GAP)
        slot, row, former = self.target, self._incoming, self.model.hooks
        self._close()
        data = self._bundle(row, slot)
        if data is None:
            raise SlotError(DIFFERS)
        if not self._takes(data):
            raise SlotError(REFUSED)
        self.model.attach(former)
        self._set(slot, row)

    def _close(self):
        if self._file is not None:
            self._file.close()
        self._file, self.target = None, -1

    def try_next(self):
        """The bundle that was written runs from the next start on."""
        if self.trial:
            raise SlotError(BUSY)
        slot = 1 if self.active == 0 else 0
        if self.rows[slot][0] not in (WRITTEN, PENDING):
            raise SlotError(NOTHING)
        self._mark(slot, PENDING)

    def confirm(self):
        if not self.trial:
            raise SlotError(NOTHING)
        self._mark(self.active, CONFIRMED)
        self.trial = False

    def revert(self):
        """Gives up the bundle on trial, else the pending one, else the active one."""
        other = 1 if self.active == 0 else 0
        if not self.trial and self.rows[other][0] == PENDING:
            self._mark(other, REVERTED)
            return
        if self.active < 0:
            raise SlotError(NOTHING)
        self._mark(self.active, REVERTED)
        self.active, self.trial = -1, False
        self.model.attach(None)
        self._close()
        self._attach_confirmed()
