"""Trains a zoo network from its data set's training split: python zoo/train.py mnist|mnist-small|smartwatch."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import argparse
import copy
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn
from torch.nn import functional as F

from dhn_kit import datasets

OPSET = 17
#: ONNX IR of opset 17: older runtimes refuse newer numbers.
IR_VERSION = 8


@dataclass(frozen=True)
class Recipe:
    """A network and how to train it. ``stacks`` are (channels, stride) of one residual block each."""

    file: str
    data: str
    input: str
    dims: int
    stem: tuple[int, int, int]  # channels, kernel, stride
    stacks: tuple[tuple[int, int], ...]
    kernel: int
    augment: Callable[[Tensor], Tensor]
    epochs: int
    batch: int = 50
    peak_rate: float = 4e-3
    weight_decay: float = 2e-2
    smoothing: float = 0.05
    seed: int = 1


class Block(nn.Module):  # type: ignore[misc]  # torch is not followed by mypy
    """conv-BN-ReLU-conv-BN plus a shortcut, then ReLU; the shortcut is a 1x1 convolution where the shape changes."""

    def __init__(self, dims: int, inputs: int, outputs: int, kernel: int, stride: int) -> None:
        super().__init__()
        self.conv1 = conv(dims, inputs, outputs, kernel, stride)
        self.conv2 = conv(dims, outputs, outputs, kernel, 1)
        same = inputs == outputs and stride == 1
        self.shortcut = None if same else conv(dims, inputs, outputs, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv2(F.relu(self.conv1(x)))
        return F.relu(y + (x if self.shortcut is None else self.shortcut(x)))


class ResNet(nn.Module):  # type: ignore[misc]
    """Stem, residual blocks, global average pool, linear."""

    def __init__(self, recipe: Recipe, inputs: int, classes: int) -> None:
        super().__init__()
        width, kernel, stride = recipe.stem
        self.stem = conv(recipe.dims, inputs, width, kernel, stride)
        blocks = []
        for channels, stride in recipe.stacks:
            blocks.append(Block(recipe.dims, width, channels, recipe.kernel, stride))
            width = channels
        self.blocks = nn.ModuleList(blocks)
        self.head = nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.stem(x))
        for block in self.blocks:
            x = block(x)
        return self.head(x.flatten(2).mean(2))


def conv(dims: int, inputs: int, outputs: int, kernel: int, stride: int) -> Any:
    """Convolution without bias, then batch norm."""
    conv_class, norm_class = ((nn.Conv1d, nn.BatchNorm1d), (nn.Conv2d, nn.BatchNorm2d))[dims - 1]
    return nn.Sequential(
        conv_class(inputs, outputs, kernel, stride, padding=kernel // 2, bias=False), norm_class(outputs)
    )


def warp_images(x: Tensor) -> Tensor:
    """Each image rotated (±15°), scaled (±15 %), sheared, shifted (±2 pixels) and bent elastically."""
    n, size = len(x), x.shape[-1]
    angle, shear, scale_x, scale_y, shift_x, shift_y = torch.rand(6, n) * 2 - 1
    angle = angle * (15 * torch.pi / 180)
    cos, sin = angle.cos(), angle.sin()
    scale_x, scale_y = 1 + 0.15 * scale_x, 1 + 0.15 * scale_y
    theta = torch.stack(
        [cos * scale_x, -sin + 0.2 * shear, shift_x * 4 / size, sin, cos * scale_y, shift_y * 4 / size], 1
    ).reshape(n, 2, 3)
    grid = F.affine_grid(theta, [n, 1, size, size], align_corners=False)
    # Random displacements on a coarse grid, up-sampled: about one pixel, smooth over a stroke.
    bend = F.interpolate(torch.randn(n, 2, 6, 6), size=(size, size), mode="bicubic", align_corners=False)
    return F.grid_sample(x, grid + bend.permute(0, 2, 3, 1) * (2 / size), align_corners=False)


#: Degrees of rotation about the device's axes. Along x, the forearm, a watch sits as its strap allows.
TURN = (25.0, 8.0, 8.0)
#: The other arm's motion is this one's mirror image along x. Rotation rates are axial vectors, so
#: there it is the other two that change sign.
MIRROR = (-1.0, 1.0, 1.0, 1.0, -1.0, -1.0)


def warp_motions(x: Tensor) -> Tensor:
    """Each window slowed or hastened (±20 %), moved to the other arm or not, the watch turned, scaled, given noise."""
    n, _, length = x.shape
    speed, offset = 1 + 0.2 * (torch.rand(n, 1) * 2 - 1), 0.2 * (torch.rand(n, 1) * 2 - 1)
    moment = torch.linspace(-1, 1, length) * speed + offset
    grid = torch.stack([moment, torch.zeros_like(moment)], 2)[:, None]
    x = F.grid_sample(x[:, :, None], grid, padding_mode="reflection", align_corners=True)[:, :, 0]
    turn = rotations(torch.randn(n, 3) * torch.tensor(TURN) * (torch.pi / 180))
    x = torch.cat([turn @ x[:, :3], turn @ x[:, 3:]], 1)
    x = torch.where(torch.rand(n, 1, 1) < 0.5, x * torch.tensor(MIRROR)[:, None], x)
    return x * (1 + 0.1 * torch.randn(n, 6, 1)) + 0.03 * torch.randn_like(x)


def rotations(axis: Tensor) -> Tensor:
    """Rotation vectors (n, 3), radians, to matrices (n, 3, 3)."""
    x, y, z = axis.unbind(1)
    zero = torch.zeros_like(x)
    skew = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], 1)
    return torch.linalg.matrix_exp(skew.reshape(-1, 3, 3))


RECIPES = {
    "mnist": Recipe(
        file="mnist_resnet8.onnx",
        data="mnist",
        input="image",
        dims=2,
        stem=(16, 3, 2),
        stacks=((16, 1), (32, 2), (64, 2)),
        kernel=3,
        augment=warp_images,
        epochs=300,
    ),
    "mnist-small": Recipe(
        file="mnist_small.onnx",
        data="mnist",
        input="image",
        dims=2,
        stem=(4, 3, 2),
        stacks=((8, 2), (16, 2), (16, 1)),
        kernel=3,
        augment=warp_images,
        epochs=100,
    ),
    "smartwatch": Recipe(
        file="smartwatch_cnn.onnx",
        data="smartwatch",
        input="motion",
        dims=1,
        stem=(16, 5, 2),
        stacks=((16, 1), (32, 2), (64, 2)),
        kernel=3,
        augment=warp_motions,
        epochs=40,
    ),
}


def train(recipe: Recipe, data: datasets.Dataset) -> ResNet:
    """AdamW, one cycle of the learning rate, label smoothing; returns the running average of the weights.

    Sees the training split alone. One thread: the order of float sums, and so the result, must not
    depend on the machine's cores.
    """
    torch.manual_seed(recipe.seed)
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    x, y = torch.from_numpy(data.x_train), torch.from_numpy(data.y_train)
    model = ResNet(recipe, x.shape[1], len(data.classes))
    average = copy.deepcopy(model)
    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=recipe.weight_decay)
    steps = len(x) // recipe.batch
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, recipe.peak_rate, recipe.epochs * steps)
    for epoch in range(recipe.epochs):
        total = 0.0
        for rows in torch.randperm(len(x))[: steps * recipe.batch].split(recipe.batch):
            loss = F.cross_entropy(model(recipe.augment(x[rows])), y[rows], label_smoothing=recipe.smoothing)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            average_into(average, model, 0.01)
            total += loss.item()
        if (epoch + 1) % 10 == 0:
            print(f"epoch {epoch + 1:3d}  loss {total / steps:.4f}", flush=True)
    average.eval()
    return average


def average_into(average: ResNet, model: ResNet, share: float) -> None:
    """Moves every float of ``average`` a share of the way towards ``model``."""
    with torch.no_grad():
        for old, new in zip(average.state_dict().values(), model.state_dict().values(), strict=True):
            if old.is_floating_point():
                old.lerp_(new, share)
            else:
                old.copy_(new)


class Exporter:
    """Writes a trained ResNet as ONNX, node by node with readable names, batch norm folded into the convolution."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []

    def node(self, op: str, name: str, inputs: list[str], output: str = "", **attributes: Any) -> str:
        output = output or f"{name}_out"
        self.nodes.append(helper.make_node(op, inputs, [output], name=name, **attributes))
        return output

    def weight(self, name: str, value: Tensor) -> str:
        array = value.detach().double().numpy().astype(np.float32)
        self.weights.append(numpy_helper.from_array(array, name))
        return name

    def conv(self, name: str, pair: Any, x: str) -> str:
        layer, norm = pair
        gain = norm.weight.double() / torch.sqrt(norm.running_var.double() + norm.eps)
        weight = self.weight(f"{name}.weight", layer.weight.double() * gain.reshape(-1, *[1] * (layer.weight.ndim - 1)))
        bias = self.weight(f"{name}.bias", norm.bias.double() - norm.running_mean.double() * gain)
        pads = [*layer.padding, *layer.padding]
        return self.node(
            "Conv", name, [x, weight, bias], kernel_shape=layer.kernel_size, strides=layer.stride, pads=pads
        )

    def block(self, name: str, block: Block, x: str) -> str:
        y = self.conv(f"{name}.conv1", block.conv1, x)
        y = self.node("Relu", f"{name}.relu1", [y])
        y = self.conv(f"{name}.conv2", block.conv2, y)
        shortcut = x if block.shortcut is None else self.conv(f"{name}.shortcut", block.shortcut, x)
        return self.node("Relu", f"{name}.relu2", [self.node("Add", f"{name}.add", [y, shortcut])])

    def model(self, model: ResNet, recipe: Recipe, shape: tuple[int, ...]) -> onnx.ModelProto:
        x = self.node("Relu", "stem.relu", [self.conv("stem.conv", model.stem, recipe.input)])
        for index, block in enumerate(model.blocks, 1):
            x = self.block(f"block{index}", block, x)
        x = self.node("Flatten", "flatten", [self.node("GlobalAveragePool", "pool", [x])], axis=1)
        head = [x, self.weight("head.weight", model.head.weight), self.weight("head.bias", model.head.bias)]
        self.node("Gemm", "head", head, "logits", transB=1)
        graph = helper.make_graph(
            self.nodes,
            Path(recipe.file).stem,
            [helper.make_tensor_value_info(recipe.input, TensorProto.FLOAT, ["batch", *shape])],
            [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", model.head.out_features])],
            self.weights,
        )
        proto = helper.make_model(graph, producer_name="dhn-kit zoo", opset_imports=[helper.make_opsetid("", OPSET)])
        proto.ir_version = IR_VERSION
        onnx.checker.check_model(proto, full_check=True)
        return proto


def accuracy(file: Path, x: datasets.Floats, y: datasets.Labels) -> float:
    """Share of right answers, computed by ONNX Runtime from the file as written."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    (logits,) = session.run(None, {session.get_inputs()[0].name: x})
    return float((np.argmax(logits, 1) == y).mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", choices=sorted(RECIPES))
    parser.add_argument("--output", type=Path, default=Path(__file__).parent, help="folder for the .onnx file")
    parser.add_argument("--epochs", type=int, help="instead of the recipe's number, for a quick try")
    arguments = parser.parse_args()
    recipe = RECIPES[arguments.name]
    data = datasets.load(recipe.data)
    recipe = replace(recipe, epochs=arguments.epochs or recipe.epochs)
    start = time.monotonic()
    model = train(recipe, data)
    file = arguments.output / recipe.file
    file.write_bytes(Exporter().model(model, recipe, data.x_train.shape[1:]).SerializeToString())
    print(f"{file}: {file.stat().st_size} bytes, trained in {time.monotonic() - start:.0f} s")
    for split in datasets.SPLITS:
        x, y = data.split(split)
        print(f"{split:5s} {len(x):5d} inputs  accuracy {accuracy(file, x, y):.4f}")


if __name__ == "__main__":
    main()
