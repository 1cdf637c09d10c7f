"""Compiles the kernels for a GPU that need not be there: the interpreter takes what no GPU does."""

from __future__ import annotations

import triton
import triton.language as tl
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from softoverlap._triton.probe import _add_one
from softoverlap.losses._triton import kernels as losses
from softoverlap.mask_boxes._triton import kernels as mask_boxes, summing

TARGET = GPUTarget("cuda", 90, 32)
PAIRS = ["*fp64", "*fp64", "*fp32", "*i64", "*i64", "*i64", "i32", "i32", "i32"]
RATIO = {"EMPTY": 1.0, "ALPHA": 0.3, "BETA": 0.7, "BLOCK": 32}
TILE = {"CHANNELS": 3, "GROUPS": 1, "TILE": 4, "BLOCK": 512, "WIDE": tl.float32}


def compiled(kernel, types, **constants) -> None:
    """Compile a kernel for arguments of these types, and constants."""
    given = iter(types)
    signature = {
        name: "constexpr" if name in constants else next(given) for name in kernel.arg_names
    }
    assert next(given, None) is None
    source = ASTSource(fn=kernel, signature=signature, constexprs=constants)
    assert "cubin" in triton.compile(source, target=TARGET).asm
    print(kernel.__name__, flush=True)  # noqa: T201


if __name__ == "__main__":
    compiled(_add_one, ["*fp32"])
    for axes, form in ((1, "iou"), (2, "tversky")):
        ratio = {**RATIO, "FORM": form, "AXES": axes}
        compiled(mask_boxes.write_scores, [*PAIRS, "*bf16"], **ratio)
        upstream = ["*fp32", "i32", "i32"]
        compiled(mask_boxes.write_to_boxes, [*PAIRS, *upstream, "*fp64"], **ratio)
        compiled(mask_boxes.add_to_tables, [*PAIRS, *upstream, "*fp64", "*fp64"], **ratio)
    for axis, backward in ((0, False), (2, True)):
        line = {"AXIS": axis, "AXES": 3, "BACKWARD": backward, "MOST": 3e38, "BLOCK": 128}
        compiled(summing.add_up_lines, ["*bf16", "*fp64", "*i64"], **line)
    for activation, form in (("softmax", "min"), ("sigmoid", "squared")):
        chosen = {**TILE, "ACTIVATION": activation, "FORM": form}
        read = ["*bf16", "*fp32", "*fp32"]
        compiled(losses.add_up, [*read, *["i32"] * 9], **chosen)
        sides = {"TO_LOGITS": True, "TO_TARGET": True}
        written = ["*bf16", "*fp32"]
        compiled(losses.write_gradients, [*read, *written, *["i32"] * 14], **chosen, **sides)
