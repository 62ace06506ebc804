"""Lets 'dhn-kit collect model.dhn samples.db --port PORT --input x.npz' play inputs to a MicroPython board."""
# SPDX-License-Identifier: Apache-2.0

import sys

import dhn
import dhn_link

try:
    import micropython

    micropython.kbd_intr(-1)  # the line carries binary data: no byte of it stops the program
except (ImportError, AttributeError):
    pass

with open("model.dhn", "rb") as file:
    pack = file.read()


def write(data):
    sys.stdout.buffer.write(data)


link = dhn_link.Link(dhn.Model(pack), pack, write)
while byte := sys.stdin.buffer.read(1):
    link.feed(byte)
