"""Trains side networks for CIFAR-10: python zoo/train_cifar.py input|block0_resnet8|block0_resnet20 --data FOLDER."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import argparse
import io
import itertools
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import TensorProto, helper, numpy_helper
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

OPSET, IR_VERSION = 17, 8
#: The main networks' own normalisation of pixels in 0..1.
MEAN, STD = 0.4734, 0.2516
CLASSES = 10
BATCH, DECAY, MOMENTUM, SEED = 128, 3e-4, 0.9, 1
#: Training images are moved by up to so many pixels, and every second one is mirrored.
SHIFT = 3
#: Weight and temperature of the main networks' answers beside the labels.
DISTIL, TEMPERATURE = 0.6, 2.0

#: Blocks as (output channels, stride); each is a depthwise 3x3 and a pointwise convolution.
Blocks = tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Recipe:
    """A trunk, and one or two exits of its own: "a" reads the trunk, "b" the trunk and what "a" has pooled."""

    file: str
    main: str  #: the network whose first layers it reads; empty: it reads the input
    stem: int
    trunk: Blocks
    a: Blocks
    b: Blocks
    epochs: int
    peak_rate: float


RECIPES = {
    "input": Recipe(
        file="cifar_input.onnx",
        main="",
        stem=16,
        trunk=((32, 1), (64, 2)),
        a=((96, 2), (96, 1)),
        b=((96, 1), (160, 2), (160, 1)),
        epochs=60,
        peak_rate=0.2,
    ),
    "block0_resnet8": Recipe(
        file="cifar_block0_resnet8.onnx",
        main="cifar_resnet8.onnx",
        stem=0,
        trunk=((32, 2), (64, 2), (128, 2), (128, 1)),
        a=(),
        b=(),
        epochs=30,
        peak_rate=0.1,
    ),
    "block0_resnet20": Recipe(
        file="cifar_block0_resnet20.onnx",
        main="cifar_resnet20.onnx",
        stem=0,
        trunk=((32, 2), (64, 2)),
        a=((96, 2), (96, 1)),
        b=((96, 1), (160, 2), (160, 1)),
        epochs=36,
        peak_rate=0.1,
    ),
}


def conv(inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> Any:
    """Convolution without bias, batch norm, ReLU."""
    layer = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
    return nn.Sequential(layer, nn.BatchNorm2d(outputs), nn.ReLU())


class Separable(nn.Module):  # type: ignore[misc]  # torch is not followed by mypy
    """Depthwise 3x3 and pointwise convolution, added to the input where the shape stays."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.dw = conv(inputs, inputs, 3, stride, inputs)
        self.pw = conv(inputs, outputs, 1)
        self.residual = inputs == outputs and stride == 1

    def forward(self, x: Tensor) -> Tensor:
        y = self.pw(self.dw(x))
        return x + y if self.residual else y


def separables(inputs: int, blocks: Blocks) -> list[nn.Module]:
    made: list[nn.Module] = []
    for outputs, stride in blocks:
        made.append(Separable(inputs, outputs, stride))
        inputs = outputs
    return made


class SideNet(nn.Module):  # type: ignore[misc]
    """Logits of every exit, first one first."""

    def __init__(self, recipe: Recipe) -> None:
        super().__init__()
        stem = [conv(3, recipe.stem, 3, 2)] if recipe.stem else []
        width = recipe.trunk[-1][0]
        self.t = nn.Sequential(*stem, *separables(recipe.stem or 16, recipe.trunk))
        self.a = nn.Sequential(*separables(width, recipe.a))
        features = recipe.a[-1][0] if recipe.a else width
        self.fa = nn.Linear(features, CLASSES)
        self.b = nn.Sequential(*separables(width, recipe.b)) if recipe.b else None
        if recipe.b:
            self.fb = nn.Linear(features + recipe.b[-1][0], CLASSES)

    def forward(self, x: Tensor) -> list[Tensor]:
        trunk = self.t(x)
        first = self.a(trunk).mean((2, 3))
        if self.b is None:
            return [self.fa(first)]
        second = self.b(trunk).mean((2, 3))
        return [self.fa(first), self.fb(torch.cat([first, second], 1))]


class Prefix(nn.Module):  # type: ignore[misc]
    """Stem and first residual block of a frozen main network, from its ONNX file."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        graph = onnx.load(str(path)).graph
        weights = {i.name: torch.from_numpy(numpy_helper.to_array(i).copy()) for i in graph.initializer}
        for k, node in enumerate([n for n in graph.node if n.op_type == "Conv"][:3]):
            self.register_buffer(f"w{k}", weights[node.input[1]].contiguous(memory_format=torch.channels_last))
            self.register_buffer(f"b{k}", weights[node.input[2]])

    @torch.no_grad()  # type: ignore[untyped-decorator]
    def forward(self, x: Tensor) -> Tensor:
        stem = F.relu(F.conv2d(x, self.w0, self.b0, padding=1))
        inner = F.relu(F.conv2d(stem, self.w1, self.b1, padding=1))
        return F.relu(F.conv2d(inner, self.w2, self.b2, padding=1) + stem)


@dataclass(frozen=True)
class Images:
    """``x`` (N, 32, 32, 3) uint8, ``y`` (N,)."""

    x: Tensor
    y: Tensor


def load(folder: Path) -> Images:
    """The 40,000 images that the main networks were trained on: JPEG files laid end to end."""
    table = np.load(folder / "cifar10_jpeg_train40k.npz")
    data, offset = table["jpeg"].tobytes(), table["offset"]
    files = (data[a:b] for a, b in itertools.pairwise(offset))
    x = np.stack([np.asarray(Image.open(io.BytesIO(f)).convert("RGB")) for f in files])
    return Images(torch.from_numpy(x), torch.from_numpy(table["y"].astype(np.int64)))


def taught(images: Images, models: Sequence[Path]) -> Tensor:
    """Mean logits (2, N, K) of the main networks: of the images, and of the mirrored images."""
    sides = []
    for x in (images.x.numpy(), images.x.numpy()[:, :, ::-1]):
        total = np.zeros((len(x), CLASSES), np.float32)
        for path in models:
            session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
            for i in range(0, len(x), 500):
                batch = np.ascontiguousarray(x[i : i + 500].transpose(0, 3, 1, 2)).astype(np.float32) / 255
                total[i : i + 500] += session.run(None, {"image": batch})[0] / len(models)
        sides.append(total)
    return torch.from_numpy(np.stack(sides))


def normalised(x: Tensor) -> Tensor:
    pixels = x.permute(0, 3, 1, 2).float() / 255
    return ((pixels - MEAN) / STD).contiguous(memory_format=torch.channels_last)


class Augmented:
    """Batches of moved and mirrored images, with labels and the main networks' logits."""

    def __init__(self, images: Images, teacher: Tensor) -> None:
        room = (SHIFT,) * 4
        padded = F.pad(images.x.permute(0, 3, 1, 2).float(), room, mode="reflect").to(torch.uint8)
        self.x = padded.permute(0, 2, 3, 1).contiguous()
        self.y, self.teacher = images.y, teacher

    def __call__(self, rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        n, size = len(rows), 32
        mirrored = torch.rand(n) < 0.5
        down, right = torch.randint(0, 2 * SHIFT + 1, (2, n, 1, 1)).unbind(0)
        line = torch.arange(size)
        columns = torch.where(mirrored[:, None, None], size - 1 - line[None, None, :], line[None, None, :]) + right
        x = normalised(self.x[rows[:, None, None], line[None, :, None] + down, columns])
        return x, self.y[rows], self.teacher[mirrored.long(), rows]


def loss_of(logits: Tensor, y: Tensor, teacher: Tensor) -> Tensor:
    """Labels and, softened, what the main networks say (Hinton, Vinyals, Dean 2015)."""
    soft = F.softmax(teacher / TEMPERATURE, 1)
    divergence = F.kl_div(F.log_softmax(logits / TEMPERATURE, 1), soft, reduction="batchmean")
    return (1 - DISTIL) * F.cross_entropy(logits, y) + DISTIL * TEMPERATURE**2 * divergence


def train(recipe: Recipe, images: Images, models: Path, epochs: int) -> SideNet:
    """SGD, one cycle of the learning rate, all exits at once. One thread, so that sums keep their order."""
    torch.manual_seed(SEED)
    torch.set_num_threads(1)
    before = Prefix(models / recipe.main) if recipe.main else nn.Identity()
    net: SideNet = SideNet(recipe).to(memory_format=torch.channels_last)
    batches = Augmented(images, taught(images, [models / "cifar_resnet20.onnx", models / "cifar_resnet8.onnx"]))
    matrices = [p for p in net.parameters() if p.ndim > 1]
    vectors = [p for p in net.parameters() if p.ndim <= 1]
    groups = [{"params": matrices, "weight_decay": DECAY}, {"params": vectors, "weight_decay": 0.0}]
    optimizer = torch.optim.SGD(groups, lr=recipe.peak_rate, momentum=MOMENTUM, nesterov=True)
    steps = len(images.y) // BATCH
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, recipe.peak_rate, epochs * steps, pct_start=0.15, div_factor=20, final_div_factor=1000
    )
    for epoch in range(epochs):
        total = 0.0
        for rows in torch.randperm(len(images.y))[: steps * BATCH].split(BATCH):
            x, y, teacher = batches(rows)
            loss = sum((loss_of(logits, y, teacher) for logits in net(before(x))), torch.zeros(()))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            total += loss.item()
        print(f"epoch {epoch + 1:3d}  loss {total / steps:.4f}", flush=True)
    net.eval()
    return net


class Exporter:
    """Writes a side network as ONNX, batch norm folded, each weight as int8 with a scale per output channel.

    The kit quantises weights in just this way, so that nothing is lost, and the file is a quarter of the size.
    """

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []

    def node(self, op: str, name: str, inputs: list[str], output: str = "", **attributes: Any) -> str:
        output = output or f"{name}.out"
        self.nodes.append(helper.make_node(op, inputs, [output], name=name, **attributes))
        return output

    def array(self, name: str, value: Any) -> str:
        self.weights.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def weight(self, name: str, value: Tensor) -> str:
        real = value.detach().double().numpy()
        scale = np.maximum(np.abs(real).reshape(len(real), -1).max(axis=1) / 127, 1e-12).astype(np.float32)
        ints = np.rint(real / scale.reshape(-1, *[1] * (real.ndim - 1))).astype(np.int8)
        wide = self.node("Cast", f"{name}.cast", [self.array(f"{name}.int8", ints)], to=TensorProto.FLOAT)
        return self.node("Mul", name, [wide, self.array(f"{name}.scale", scale.reshape(-1, *[1] * (real.ndim - 1)))])

    def conv(self, name: str, layers: Any, x: str) -> str:
        layer, norm = layers[0], layers[1]
        gain = norm.weight.double() / torch.sqrt(norm.running_var.double() + norm.eps)
        bias = (norm.bias.double() - norm.running_mean.double() * gain).detach().numpy().astype(np.float32)
        inputs = [x, self.weight(f"{name}.w", layer.weight.double() * gain.reshape(-1, 1, 1, 1))]
        inputs.append(self.array(f"{name}.bias", bias))
        pads = [*layer.padding, *layer.padding]
        x = self.node(
            "Conv", name, inputs, kernel_shape=layer.kernel_size, strides=layer.stride, pads=pads, group=layer.groups
        )
        return self.node("Relu", f"{name}.relu", [x])

    def blocks(self, name: str, layers: Any, x: str) -> str:
        for number, layer in enumerate(layers):
            here = f"{name}{number}"
            if isinstance(layer, Separable):
                y = self.conv(f"{here}.pw", layer.pw, self.conv(f"{here}.dw", layer.dw, x))
                x = self.node("Add", f"{here}.add", [y, x]) if layer.residual else y
            else:
                x = self.conv(here, layer, x)
        return x

    def pooled(self, name: str, x: str) -> str:
        return self.node("Flatten", f"{name}.flat", [self.node("GlobalAveragePool", f"{name}.pool", [x])], axis=1)

    def linear(self, name: str, layer: nn.Linear, x: str) -> str:
        bias = self.array(f"{name}.bias", layer.bias.detach().numpy())
        self.node("Gemm", name, [x, self.weight(f"{name}.w", layer.weight), bias], f"{name}.logits", transB=1)
        return f"{name}.logits"

    def model(self, net: SideNet, recipe: Recipe) -> onnx.ModelProto:
        trunk = self.blocks("trunk", net.t, "tap")
        first = self.pooled("a", self.blocks("a", net.a, trunk))
        outputs = [self.linear("first", net.fa, first)]
        if net.b is not None:
            second = self.pooled("b", self.blocks("b", net.b, trunk))
            both = self.node("Concat", "both", [first, second], axis=1)
            outputs.append(self.linear("second", net.fb, both))
        channels = 3 if recipe.stem else 16
        ports = [helper.make_tensor_value_info("tap", TensorProto.FLOAT, ["batch", channels, 32, 32])]
        made = [helper.make_tensor_value_info(o, TensorProto.FLOAT, ["batch", CLASSES]) for o in outputs]
        graph = helper.make_graph(self.nodes, Path(recipe.file).stem, ports, made, self.weights)
        proto = helper.make_model(graph, producer_name="dhn-kit zoo", opset_imports=[helper.make_opsetid("", OPSET)])
        proto.ir_version = IR_VERSION
        onnx.checker.check_model(proto, full_check=True)
        return proto


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", choices=sorted(RECIPES))
    parser.add_argument("--data", type=Path, required=True, help="folder with cifar10_jpeg_train40k.npz")
    parser.add_argument("--models", type=Path, required=True, help="folder with cifar_resnet{8,20}.onnx")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent, help="folder for the .onnx file")
    parser.add_argument("--epochs", type=int, help="instead of the recipe's number, for a quick try")
    arguments = parser.parse_args()
    recipe = RECIPES[arguments.name]
    start = time.monotonic()
    net = train(recipe, load(arguments.data), arguments.models, arguments.epochs or recipe.epochs)
    file = arguments.output / recipe.file
    file.write_bytes(Exporter().model(net, recipe).SerializeToString())
    print(f"{file}: {file.stat().st_size} bytes, trained in {time.monotonic() - start:.0f} s")


if __name__ == "__main__":
    main()
