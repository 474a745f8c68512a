"""Files of one small network: torch.export, TorchScript and ONNX, with the settings that serve them."""

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

SIDE, CLASSES = 32, 5
MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.3, 0.4)
CONFIG: dict[str, Any] = {
    "runtime": "torch",
    "device": "cpu",
    "resize_px": SIDE,
    "crop_px": SIDE,
    "mean": MEAN,
    "std": STD,
    "decode": "exact",
    "batch_sizes": (1, 2, 4),
    "slots": 8,
    "decode_workers": 1,
    "spare_workers": 0,
}
IMAGES = torch.randn(3, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1))


class Network(nn.Module):
    """A small classifier that a file may hold; its `view` fails on a layout that it was not saved with."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.linear = nn.Conv2d(3, 4, 8, stride=8), nn.Linear(64, CLASSES)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits [n, classes]."""
        logits: Tensor = self.linear(self.conv(images).relu().view(-1, 64))
        return logits


NETWORK = Network().eval()


def exported(path: Path, dynamic: Any = None, batch: int = 2, dtype: torch.dtype = torch.float32) -> Path:
    network = Network().eval().to(dtype)
    shapes = ({0: dynamic},) if dynamic else None
    program = torch.export.export(network, (torch.zeros(batch, 3, SIDE, SIDE, dtype=dtype),), dynamic_shapes=shapes)
    torch.export.save(program, path)
    return path


def scripted(path: Path) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecated
        torch.jit.save(torch.jit.script(Network().eval()), path)
    return path


def onnx_file(path: Path, *, batch: int | str = "n", of_bytes: bool = False, outputs: int = 1) -> Path:
    """Write the same network by hand; with `of_bytes` it takes uint8 [n, side, side, 3] and normalises it itself."""
    initializers = [numpy_helper.from_array(value.numpy(), name) for name, value in NETWORK.state_dict().items()]
    shape: list[int | str] = [batch, SIDE, SIDE, 3] if of_bytes else [batch, 3, SIDE, SIDE]
    nodes, images = [], "images"
    if of_bytes:
        numbers = {"scale": 1 / (255 * np.array(STD)), "shift": -np.array(MEAN) / np.array(STD)}
        initializers += [numpy_helper.from_array(value.astype("float32"), name) for name, value in numbers.items()]
        nodes = [
            helper.make_node("Cast", ["images"], ["floats"], to=TensorProto.FLOAT),
            helper.make_node("Mul", ["floats", "scale"], ["scaled"]),
            helper.make_node("Add", ["scaled", "shift"], ["normalised"]),
            helper.make_node("Transpose", ["normalised"], ["planes"], perm=[0, 3, 1, 2]),
        ]
        images = "planes"
    nodes += [
        helper.make_node("Conv", [images, "conv.weight", "conv.bias"], ["maps"], strides=[8, 8]),
        helper.make_node("Relu", ["maps"], ["positive"]),
        helper.make_node("Flatten", ["positive"], ["features"]),
        helper.make_node("Gemm", ["features", "linear.weight", "linear.bias"], ["logits"], transB=1),
    ]
    kind = TensorProto.UINT8 if of_bytes else TensorProto.FLOAT
    given = [
        helper.make_tensor_value_info("logits", TensorProto.FLOAT, [batch, CLASSES]),
        helper.make_tensor_value_info("features", TensorProto.FLOAT, [batch, 64]),
    ]
    taken = [helper.make_tensor_value_info("images", kind, shape)]
    graph = helper.make_graph(nodes, "network", taken, given[:outputs], initializers)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


BATCH = torch.export.Dim("batch", min=1, max=2)
FILES: dict[str, Callable[[Path], Path]] = {
    "any.pt2": lambda path: exported(path, torch.export.Dim.DYNAMIC),
    "two.pt2": lambda path: exported(path, BATCH),
    "fixed.pt": lambda path: exported(path, batch=4),  # the content tells the kind, not the suffix
    "script.pth": scripted,
    "any.onnx": onnx_file,
    "fixed.onnx": lambda path: onnx_file(path, batch=2),
    "bytes.onnx": lambda path: onnx_file(path, of_bytes=True),
}


def settings_of(file: Path) -> dict[str, Any]:
    own = {"mean": None, "std": None} if file.name == "bytes.onnx" else {}
    return {**CONFIG, **own, "model": str(file)}
