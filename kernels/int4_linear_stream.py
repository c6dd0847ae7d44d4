"""Four-bit weights as a block's products read them. By themselves they are multiplied as bfloat16, for many rows."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from kernels import backend
from kernels.weights import Four, four

Data = Four


def pack(codes: Tensor, steps: Tensor, offsets: Tensor) -> Data:
    return four(codes, steps, offsets)


def int4_linear(x: Tensor, data: Data, bias: Tensor | None) -> Tensor:
    wide = backend.quickest("widen", x.device.type).widen(data)
    y = F.linear(x.bfloat16(), wide).float()
    return y if bias is None else y + bias
