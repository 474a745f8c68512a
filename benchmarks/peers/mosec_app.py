"""mobilenet_v2 behind mosec: python mosec_app.py --address 127.0.0.1 --port PORT, with what mosec.txt installs.

The shape is that of "Image Recognition" (https://mosecorg.github.io/mosec/examples/pytorch.html#computer-vision): a
stage of worker processes decodes one image at a time and raises `ValidationError` for what it cannot decode, a second
one of two workers runs the model on batches. The body is the image itself, by `deserialize` of the example above it on
that page. Threads by `env`, as "Performance tuning" of the README advises; everything else is left at its default, so
`--timeout` is 3 s and `--capacity` 1024.

Because decoding is a stage of its own that does not batch, a bad image fails alone.
"""

from io import BytesIO
from typing import Any

import torch
from mosec import Server, ValidationError, Worker
from PIL import Image
from torchvision.models import MobileNet_V2_Weights, mobilenet_v2

from benchmarks.peers.variants import DARKROOM_DECODES, STAND_IN, our_pixels, stand_in

WEIGHTS = MobileNet_V2_Weights.IMAGENET1K_V1
BATCH_SIZE = 8


class MosecPreprocess(Worker):  # type: ignore[misc]  # is not installed where types are checked
    """An encoded image -> pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.transform = WEIGHTS.transforms()

    def deserialize(self, data: bytes) -> bytes:
        """Return the body unchanged."""
        return data

    def forward(self, data: bytes) -> Any:
        """Decode an image -> float32 [3, 224, 224]."""
        if DARKROOM_DECODES:
            return our_pixels(data)
        try:
            image = Image.open(BytesIO(data)).convert("RGB")
        except Exception as error:
            raise ValidationError(f"cannot decode as image data: {error}") from error
        return self.transform(image).numpy()


class MosecInference(Worker):  # type: ignore[misc]  # is not installed where types are checked
    """Pixels of many images -> a class each."""

    def __init__(self) -> None:
        super().__init__()
        self.model = None if STAND_IN else mobilenet_v2(weights=WEIGHTS).eval()
        self.example = [torch.zeros(3, 224, 224).numpy()] * BATCH_SIZE

    def forward(self, data: list[Any]) -> list[dict[str, str]]:
        """float32 [3, 224, 224] of each image -> its label."""
        if self.model is None:
            classes = stand_in(len(data))
            return [{"label": WEIGHTS.meta["categories"][index]} for index in classes]
        with torch.inference_mode():
            classes = self.model(torch.stack([torch.from_numpy(pixels) for pixels in data])).argmax(dim=1).tolist()
        return [{"label": WEIGHTS.meta["categories"][index]} for index in classes]


def environment(stage: str) -> list[dict[str, str]]:
    """Environment of a stage's two workers; by the stage's name the benchmark finds their processes."""
    return [{"OMP_NUM_THREADS": "1", "STAGE": stage}] * 2


if __name__ == "__main__":
    server = Server()
    server.append_worker(MosecPreprocess, num=2, env=environment("preprocess"))
    server.append_worker(
        MosecInference, num=2, max_batch_size=BATCH_SIZE, max_wait_time=5, env=environment("inference")
    )
    server.run()
