"""Exports torchvision's ResNet-50 (seeded random weights, batch norm folded) with one input and its output.

    python3 bench/export_resnet50.py FOLDER

writes FOLDER/model.onnx and FOLDER/test_data_set_0/{input,output}_0.pb, which `wideword run` checks against. Needs
torch, torchvision, onnx and onnxscript.
"""
import os
import sys

import onnx
import torch
import torchvision
from onnx import numpy_helper
from torch.fx.experimental.optimization import fuse


def main(folder: str) -> None:
    torch.manual_seed(1)
    model = fuse(torchvision.models.resnet50(weights=None).eval())
    x = torch.randn(1, 3, 224, 224)
    with torch.no_grad():
        y = model(x)
    data = os.path.join(folder, "test_data_set_0")
    os.makedirs(data, exist_ok=True)
    torch.onnx.export(model, (x,), os.path.join(folder, "model.onnx"), input_names=["x"], output_names=["y"],
                      opset_version=18, dynamo=True, external_data=False)
    for name, tensor in (("input_0", x), ("output_0", y)):
        proto = numpy_helper.from_array(tensor.numpy(), "x" if name.startswith("input") else "y")
        onnx.save_tensor(proto, os.path.join(data, f"{name}.pb"))


if __name__ == "__main__":
    main(sys.argv[1])
