"""Serves the model to dhn-kit (collect, push, status, monitor): copy it to the board as main.py."""
# SPDX-License-Identifier: Apache-2.0

import sys

import dhn
import dhn_link
import dhn_slots

with open("model.dhn", "rb") as file:
    pack = file.read()


def write(data):
    sys.stdout.buffer.write(data)


def read_input():
    """What 'dhn-kit collect' without --input runs on: read your sensor here, int8 (height, width, channel)."""
    return None


def interrupts(byte):
    """Which byte of the console stops the program: -1 none, because the line carries binary data."""
    try:
        import micropython

        micropython.kbd_intr(byte)
    except (ImportError, AttributeError):
        pass


def serve():
    while True:
        model = dhn.Model(pack)
        link = dhn_link.Link(model, pack, write, slots=dhn_slots.Slots(model, pack[16:32]), read_input=read_input)
        while not link.restart:
            byte = sys.stdin.buffer.read(1)
            if not byte:
                return
            link.feed(byte)
        del model, link  # their memory is needed for the next ones


interrupts(-1)
try:
    serve()
finally:  # mpremote, or Ctrl-C twice, wants the prompt back
    interrupts(3)
