"""The byte layouts of a pack: what firmware/runtime/dhn_format.h and mcu_kernels/dhn_kernels.h declare, as structs."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

MAGIC = 0x314E4844
FORMAT_VERSION = 2
KIND_MAIN, KIND_HOOKS = 1, 2
REF_CONST = 0x80000000
INSTR_RUN, INSTR_POINT, INSTR_END = 0, 1, 2
ACTIONS = {"exit": 1, "skip": 2, "select": 3, "mask": 4, "reuse": 5, "blend": 6}
MASK_GROUPS = 1
#: Bytes at the start of `keep` that describe the surroundings, one per channel.
ENVIRONMENT = 16
#: Most hooks of a bundle and most selections of a pack, group 0 included.
MAX_HOOKS, MAX_GROUPS = 32, 64
DECIDE = {"value": 0, "margin": 1}
#: Offsets inside the header: CRC-32 covers [16, bytes), the hash [48, bytes).
CRC_FROM, HASH_FROM = 16, 48


@dataclass(frozen=True)
class Record:
    """A C structure without padding. ``fields`` is a list of "name:code", codes as in `struct`, repeats as "3H"."""

    name: str
    fields: tuple[tuple[str, str], ...]

    @property
    def format(self) -> str:
        return "<" + "".join(code for _, code in self.fields)

    @property
    def size(self) -> int:
        return struct.calcsize(self.format)

    def pack(self, **values: Any) -> bytes:
        """Missing fields are zero; an unknown one is a mistake of the caller."""
        unknown = set(values) - {name for name, _ in self.fields}
        assert not unknown, f"{self.name} has no field {unknown}"
        flat: list[Any] = []
        for name, code in self.fields:
            value = values.get(name, b"" if code.endswith("s") else 0)
            if code[0].isdigit() and not code.endswith("s"):
                flat.extend(value if isinstance(value, Iterable) else [value] * int(code[:-1]))
            else:
                flat.append(value)
        return struct.pack(self.format, *flat)

    def unpack(self, data: bytes, offset: int = 0) -> dict[str, Any]:
        flat = list(struct.unpack_from(self.format, data, offset))
        values: dict[str, Any] = {}
        for name, code in self.fields:
            if code[0].isdigit() and not code.endswith("s"):
                count = int(code[:-1])
                values[name], flat = tuple(flat[:count]), flat[count:]
            else:
                values[name] = flat.pop(0)
        return values


def _record(name: str, spec: str) -> Record:
    pairs = (field.split(":") for field in spec.split())
    return Record(name, tuple((n, c) for n, c in pairs))


HEADER = _record(
    "dhn_header_t",
    "magic:I version:H kind:B flavour:B bytes:I crc32:I hash:16s bound_to:16s arena_bytes:I kernels:I io:I program:I"
    " program_bytes:I points:I hooks:I kernel_count:H input_count:H output_count:H point_count:H hook_count:H"
    " operating_points:H bundle_version:I keep:I keep_bytes:I policies:I ranges:I policy_count:H range_count:H"
    " group_count:H reserved:H",
)
IO_TENSOR = _record("dhn_io_tensor_t", "ref:I bytes:I h:H w:H c:H zero_point:h scale:f")
INSTR = _record(
    "dhn_instr_t", "bytes:H kind:B kernel:B index:H group:B variant:B in0:I in1:I out:I scratch:I scratch_bytes:I"
)
POINT = _record(
    "dhn_point_t",
    "instr:I tap:I tap_scale:f tap_zero_point:h tap_h:H tap_w:H tap_c:H window_h:H window_w:H scratch:I scratch_bytes:I"
    " skip_to:I skip_src:I skip_dst:I skip_bytes:I",
)
HOOK = _record(
    "dhn_hook_t",
    "point:H action:B decide:B program:I then:I otherwise:I score:I score_count:I answer:I answer_bytes:I thresholds:I"
    " group:B variant:B flags:H",
)
POLICY = _record("dhn_policy_t", "point:H channel:B low:b high:b reserved:3B")
RANGE = _record("dhn_range_t", "kind:B index:B operating_point:H low:i high:i")
_CONV = (
    "in_h:H in_w:H in_c:H out_h:H out_w:H out_c:H kh:H kw:H stride_h:H stride_w:H dilation_h:H dilation_w:H pad_t:H"
    " pad_l:H groups:H reserved:H in_zp:h out_zp:h act_min:h act_max:h weight:I bias:I mult:I shift:I"
)
CONV = _record("dhn_conv_t", _CONV)
CONV_MASKED = _record("dhn_conv_masked_t", _CONV + " in_group:H out_group:H")
FC = _record(
    "dhn_fc_t",
    "rows:H in_c:H out_c:H reserved:H in_zp:h out_zp:h act_min:h act_max:h weight:I bias:I mult:I shift:I",
)
BINARY = _record(
    "dhn_binary_t",
    "shape:3H negate_b:H a_stride:3I b_stride:3I a_zp:h b_zp:h out_zp:h act_min:h act_max:h left_shift:h a_mult:i"
    " a_shift:i b_mult:i b_shift:i out_mult:i out_shift:i",
)
POOL = _record(
    "dhn_pool_t",
    "in_h:H in_w:H c:H out_h:H out_w:H kh:H kw:H stride_h:H stride_w:H pad_t:H pad_l:H act_min:h act_max:h reserved:H",
)
MEAN = _record("dhn_mean_t", "pixels:I c:H reserved:H in_zp:h out_zp:h mult:i shift:i")
LUT = _record("dhn_lut_t", "count:I table:I")
SOFTMAX = _record("dhn_softmax_t", "rows:H c:H table:I")
COPY = _record("dhn_copy_t", "shape:3H reserved:H in_stride:3I out_stride:3I")
FILL = _record("dhn_fill_t", "count:I value:i")
ADD_TABLE = _record("dhn_add_table_t", "count:I table:I factor:i scale:i round:i out_zp:h swap:H")

#: In the order in which the twin reports its sizes.
ALL = (
    HEADER,
    IO_TENSOR,
    INSTR,
    POINT,
    HOOK,
    POLICY,
    RANGE,
    CONV,
    FC,
    BINARY,
    POOL,
    MEAN,
    LUT,
    SOFTMAX,
    COPY,
    FILL,
    ADD_TABLE,
    CONV_MASKED,
)

#: Parameter record per operator (the high byte of a kernel's id).
PARAMS: dict[int, Record] = {
    1: CONV,
    2: CONV,
    3: FC,
    4: BINARY,
    5: BINARY,
    6: POOL,
    7: POOL,
    8: MEAN,
    9: LUT,
    10: SOFTMAX,
    11: COPY,
    12: FILL,
    13: ADD_TABLE,
    14: CONV_MASKED,
}
#: Fields that hold offsets of constants.
CONST_FIELDS = ("weight", "bias", "mult", "shift", "table")


class ConstPool:
    """Constants of a pack, each at a multiple of 4, equal ones stored once."""

    def __init__(self, base: int) -> None:
        self._base = base
        self._data = bytearray()
        self._seen: dict[bytes, int] = {}

    def add(self, data: bytes) -> int:
        """Offset from the start of the pack."""
        if data not in self._seen:
            self._data += bytes(-len(self._data) % 4)
            self._seen[data] = self._base + len(self._data)
            self._data += data
        return self._seen[data]

    def bytes(self) -> bytes:
        return bytes(self._data) + bytes(-len(self._data) % 4)
