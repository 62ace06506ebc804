"""Gated int8 inference in MicroPython: loads packs, attaches hook bundles and runs them (native part: _dhn)."""
# SPDX-License-Identifier: Apache-2.0

import struct
import sys
import time
from array import array

try:
    import _dhn
except (ImportError, ValueError) as error:
    # By the number of an architecture, the module that runs there; all others build it in.
    _modules = {2: "x64", 4: "armv6m", 5: "armv7m", 6: "armv7m", 7: "armv7emsp", 8: "armv7emsp", 9: "xtensa"}
    _modules.update({10: "xtensawin", 11: "rv32imc"})
    _module = _modules.get(getattr(sys.implementation, "_mpy", 0) >> 10 & 15)
    _how = "micropython-c, and build MicroPython" if _module is None else "micropython --arch " + _module
    raise ImportError(f"no module _dhn for this board ({error}); on the host: dhn-kit export --as {_how}") from None

GATED, SHADOW, DETACHED = 0, 1, 2
NOT_REACHED, KEPT, ACTED = 0, 1, 2
_HOOKS, _EXIT, _DECISION, _SCORE, _FEATURES, _VERSION, _POINTS, _CHOICE = range(8)
_ALIGN = -1


def _check(status, hint=""):
    if status < 0:
        raise ValueError(_dhn.error(status) + hint)
    return status


class Model:
    """A pack that is ready to run in ``arena``.

    ``blob`` is any buffer and is used where it is: a memoryview of a file in ROMFS costs no RAM. It must start at a
    multiple of 4. ``arena`` is a bytearray of at least `arena_bytes` (pack), None: a new one. Neither may be resized
    while the model is in use; a model whose buffers have moved raises ValueError. ValueError says what is wrong with
    a blob that cannot be loaded.
    """

    def __init__(self, blob, arena=None):
        if arena is None:
            arena = bytearray(arena_bytes(blob))
        self._pack = blob
        self._arena = arena
        self.arena_bytes = len(arena)
        self._bundle = None
        self._state = bytearray(_dhn.state_bytes())
        _check(_dhn.load(self._state, blob, arena), _hint(blob))
        self.inputs = self._sizes(0)
        self.outputs = self._sizes(1)
        self._out = [array("b", bytes(size)) for size in self.outputs]
        self._features = None
        self.mode = GATED
        self.point = 0
        self._environment = bytes(16)
        self.ticks_us = 0

    def _sizes(self, outputs):
        sizes = []
        while (size := _dhn.tensor(self._state, outputs, len(sizes))) >= 0:
            sizes.append(size)
        return tuple(sizes)

    def attach(self, hooks):
        """Hooks that decide from the next run on; None: none. ValueError: not for this pack; the former ones stay."""
        _check(_dhn.attach(self._state, self._pack, self._arena, hooks), "" if hooks is None else _hint(hooks))
        self._bundle = hooks

    def run(self, *x):
        """The output for one input (a buffer per input of the network: int8, height, width, channel).

        An array of int8, for several outputs a tuple of them, which the next run overwrites.
        """
        if len(x) != len(self.inputs):
            raise ValueError(f"the network has {len(self.inputs)} inputs, {len(x)} are given")
        for i, data in enumerate(x):
            if _dhn.put(self._state, self._arena, i, data):
                raise ValueError(f"input {i} needs {self.inputs[i]} bytes, or the arena has moved")
        start = time.ticks_us()
        how = self.mode | self.point << 8
        _check(_dhn.run(self._state, self._pack, self._arena, self._bundle, how, self._features))
        self.ticks_us = time.ticks_diff(time.ticks_us(), start)
        for i, out in enumerate(self._out):
            _dhn.get(self._state, self._arena, i, out)
        return self._out[0] if len(self._out) == 1 else tuple(self._out)

    @property
    def decision(self):
        """Of the last run: the hook that ended it (-1: none), then (decision, score) of each hook."""
        return self._field(_EXIT), tuple(
            (self._field(_DECISION, i), self._field(_SCORE, i)) for i in range(self._field(_HOOKS))
        )

    @property
    def environment(self):
        """Sixteen int8 channels that hooks may read (docs/perception.md); to be set between runs."""
        return self._environment

    @environment.setter
    def environment(self, channels):
        _check(_dhn.environment(self._state, self._arena, channels))
        self._environment = bytes(channels)

    @property
    def version(self):
        """Of the attached bundle, 0: none."""
        return self._field(_VERSION)

    @property
    def hooks(self):
        """The attached bundle, None: none."""
        return self._bundle

    @property
    def operating_points(self):
        """How many the attached bundle has."""
        return self._field(_POINTS)

    def choose_point(self, fallback=0):
        """The operating point that the bundle's policy names for `environment`; ``fallback`` where it names none."""
        return self._field(_CHOICE, fallback)

    def _field(self, what, i=0):
        return _dhn.trace(self._state, what, i)

    def feature_sizes(self):
        """Bytes of each hook point's feature."""
        sizes = []
        while (size := _dhn.point(self._state, len(sizes))) >= 0:
            sizes.append(size)
        return tuple(sizes)

    def watch(self):
        """From the next run on, `sample` holds the features of hook points."""
        sizes = self.feature_sizes()
        self._features = bytearray(sum(sizes) + 2 * len(sizes))

    def sample(self, x=b"", tag=0, reason=1, propensity=1 << 24, points=0):
        """The record of the last run that `dhn-kit collect` stores (docs/link-protocol.md, Samples), with its input
        ``x`` if given. ``propensity``: with what probability a record is made, in parts of 2^24. ``points``: of which
        hook points it holds features, one bit each, 0 for all."""
        exit_hook, hooks = self.decision
        segments = len(self.feature_sizes()) + 1
        head = struct.pack(
            "<IIIHhBBBBII16s", tag, propensity, self.version, self.point, exit_hook, reason, self.mode != GATED,
            len(hooks), segments, self.outputs[0], len(x), self._environment,
        )  # fmt: skip
        decisions = bytes(d for d, _ in hooks)
        scores = struct.pack(f"<{len(hooks)}h", *(s for _, s in hooks))
        # Only the whole run is timed here, so the first segment stands for all.
        ticks = struct.pack(f"<{segments}I", self.ticks_us, *(0 for _ in range(segments - 1)))
        return b"".join((head, decisions, scores, ticks, bytes(self._out[0]), bytes(x), self._kept(points)))

    def _kept(self, points):
        """Features of the last run as records have them."""
        features = b"" if self._features is None else bytes(self._features[: self._field(_FEATURES)])
        if not points:
            return features
        kept, sizes, at = b"", self.feature_sizes(), 0
        while at < len(features):
            point = features[at] | features[at + 1] << 8
            end = at + 2 + sizes[point]
            if points >> point & 1:
                kept += features[at:end]
            at = end
        return kept


def arena_bytes(blob):
    """How large an arena the pack needs. ValueError: no pack."""
    return _check(_dhn.need(blob), _hint(blob))


def _hint(blob):
    return "; where a file is not aligned, copy it: Model(bytes(blob))" if _dhn.need(blob) == _ALIGN else ""
