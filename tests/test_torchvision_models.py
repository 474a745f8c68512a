"""Test that torch's compiler is imported when it is needed, and not before."""

import subprocess
import sys


def test_a_placeholder_of_the_compiler_gives_way_to_it() -> None:
    """The placeholder of the compiler is replaced when the real one is imported, in any version of torchvision."""
    program = """
import sys, pipeline.torchvision_models as tested
from torchvision.ops.roi_align import is_compile_supported
assert "torch._dynamo" not in sys.modules
with tested._compiler_left_out():
    from torch._dynamo import exc
    from torch._dynamo.utils import is_compile_supported as real
assert exc is sys.modules["torch._dynamo.exc"]
assert real is sys.modules["torch._dynamo.utils"].is_compile_supported is not is_compile_supported
assert is_compile_supported("cpu") == real("cpu") and not is_compile_supported("meta")
import torch
assert torch.compile(lambda n: n + 1, backend="eager")(torch.ones(1)) == 2
"""
    subprocess.run([sys.executable, "-c", program], check=True)
