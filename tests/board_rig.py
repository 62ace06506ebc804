"""What the tests of link and boards share: a small gated network, its firmware, and a line that breaks bytes."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import atexit
import dataclasses
import functools
import random
import shutil
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from dhn_kit.board_client import BoardClient
from dhn_kit.board_session import BoardSession, open_board
from dhn_kit.boards import Board, load_board
from dhn_kit.bundle import pack_bundle
from dhn_kit.firmware_build import FirmwareImage, build_firmware
from dhn_kit.graph import Graph
from dhn_kit.hooks import ALWAYS, NEVER, Bundle, HookSpec
from dhn_kit.link import Link, Transport
from dhn_kit.pack import Pack, pack
from dhn_kit.trailer import device_bytes
from framework_hosts import HOSTS, build_host, host_board
from nets import Net
from test_runtime import exit_net

SENSOR = Path(__file__).parent / "fw" / "sensor.c"


def small_net() -> Graph:
    """A residual network on 8 x 8 x 1 inputs, so small that a sample with its input is one frame."""
    net = Net((8, 8, 1))
    x = net.block(net.conv("x", 2, stride=2), 2)
    net.fc(net.mean(x), 4)
    return net.done()


@functools.cache
def small_pack() -> Pack:
    """`small_net`, for any core."""
    return pack(small_net())


def small_inputs(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(-128, 128, (count, 8, 8, 1)).astype(np.int8)


@functools.cache
def small_bundle(version: int = 1, seed: int = 7) -> bytes:
    """One exit at the last hook point; operating points: off, sometimes, always."""
    main = small_pack()
    point = len(main.points) - 1
    spec = HookSpec(point, "exit", exit_net(main, point, seed), [NEVER, 10, ALWAYS])
    return pack_bundle(main, Bundle([spec], ["off", "some", "all"], version=version))


def target_of(name: str) -> Board:
    """A board by its name, the tests' own included."""
    return host_board(name) if name in HOSTS else load_board(name)


def install(client: BoardClient, version: int = 1, seed: int = 7) -> None:
    """A bundle pushed, tried and confirmed."""
    client.push(small_bundle(version, seed))
    client.trial()
    client.confirm()


@functools.cache
def program(board: str) -> Path:
    """The small network's firmware for a board by its name, the tests' own included."""
    if board not in HOSTS:
        return firmware(board).elf
    return build_host(board, device_bytes(small_pack().data), _folder(board), [SENSOR])


def _folder(board: str) -> Path:
    folder = Path(tempfile.mkdtemp(prefix=f"dhn-{board}-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


@functools.cache
def firmware(board: str) -> FirmwareImage:
    """Built once per test process. As a process of this computer it stops at the first undefined behaviour."""
    target = load_board(board)
    if board == "posix":
        flags = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all")
        target = dataclasses.replace(target, core=dataclasses.replace(target.core, flags=flags))
    return build_firmware(small_pack().data, target, _folder(board), user_sources=[SENSOR])


def session(board: str, workdir: Path) -> BoardSession:
    return open_board(target_of(board), program(board), workdir)


@dataclass
class NoisyLine:
    """Changes each byte with probability ``rate``, both ways, from a fixed seed. Drops nothing else."""

    inner: Transport
    rate: float
    seed: int = 1
    changed: int = 0
    lots: random.Random = field(init=False)

    def __post_init__(self) -> None:
        self.lots = random.Random(self.seed)

    def _spoil(self, data: bytes) -> bytes:
        spoiled = bytearray(data)
        for i in range(len(spoiled)):
            if self.lots.random() < self.rate:
                spoiled[i] ^= self.lots.randrange(1, 256)
                self.changed += 1
        return bytes(spoiled)

    def read(self, timeout: float) -> bytes:
        return self._spoil(self.inner.read(timeout))

    def write(self, data: bytes) -> None:
        self.inner.write(self._spoil(data))

    def close(self) -> None:
        self.inner.close()


def over_noise(board: BoardSession, rate: float, timeout: float) -> tuple[BoardClient, NoisyLine]:
    """A second client on the session's line, through noise."""
    line = NoisyLine(board.client.link.transport, rate)
    client = BoardClient(Link(line, timeout, retries=50), run_timeout=timeout)
    client.hello()
    return client, line
