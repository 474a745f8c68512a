"""mobilenet_v2 behind Ray Serve alone: python ray_serve_app.py PORT [loader], in Darkroom's own environment.

The code follows two pages of Ray's documentation: a deployment that transforms an image by torchvision ("Serve ML
Models", PyTorch), and `@serve.batch` ("Dynamic Request Batching"), whose handler gets the requests that have arrived
meanwhile. There is one replica a core. With `loader` the handler gives each batch to a new `DataLoader` with two
workers, as a user does who knows that class from training.

Two settings are not from these pages, and help Ray Serve: Ray's processes run at nice 0, like all others here, and
`max_ongoing_requests`, 5 by default, is large enough for whole batches.
"""

import os
import signal
import sys
from collections.abc import Sequence
from io import BytesIO
from typing import Any

import ray
import torch
from PIL import Image
from ray import serve
from starlette.requests import Request
from torch.utils.data import DataLoader, Dataset
from torchvision.models import MobileNet_V2_Weights, mobilenet_v2

from benchmarks.peers.variants import STAND_IN, stand_in

WEIGHTS = MobileNet_V2_Weights.IMAGENET1K_V1
BATCH_SIZE = 8
TRANSFORM = WEIGHTS.transforms()


def pixels_of(body: bytes) -> Any:
    """Decode and transform an encoded image -> float32 [3, 224, 224]."""
    return TRANSFORM(Image.open(BytesIO(body)).convert("RGB"))


class Bodies(Dataset[Any]):
    """The images of one batch."""

    def __init__(self, bodies: Sequence[bytes]) -> None:
        self._bodies = bodies

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self._bodies)

    def __getitem__(self, index: int) -> Any:
        """Decode and transform one image."""
        return pixels_of(self._bodies[index])


@serve.deployment(
    num_replicas=len(os.sched_getaffinity(0)), ray_actor_options={"num_cpus": 1}, max_ongoing_requests=4 * BATCH_SIZE
)
class RayServeClassifier:
    """One image a request, the body as it is; many requests a batch."""

    def __init__(self, loader: bool) -> None:
        torch.set_num_threads(1)  # a replica a core
        self._loader = loader
        self._model = None if STAND_IN else mobilenet_v2(weights=WEIGHTS).eval()

    async def __call__(self, request: Request) -> dict[str, str]:
        """Return the JSON document that answers a request."""
        return {"label": await self.classify(await request.body())}

    @serve.batch(max_batch_size=BATCH_SIZE, batch_wait_timeout_s=0.005)
    async def classify(self, bodies: list[bytes]) -> list[str]:
        """Classify many bodies -> one label each."""
        if self._loader:
            (pixels,) = DataLoader(Bodies(bodies), batch_size=len(bodies), num_workers=2)
        else:
            pixels = torch.stack([pixels_of(body) for body in bodies])
        if self._model is None:
            classes = stand_in(len(pixels))
        else:
            with torch.inference_mode():
                classes = self._model(pixels).argmax(dim=1).tolist()
        return [WEIGHTS.meta["categories"][index] for index in classes]


if __name__ == "__main__":
    ray.init(address="local", include_dashboard=False, log_to_driver=False)
    serve.start(http_options={"host": "127.0.0.1", "port": int(sys.argv[1])})
    serve.run(RayServeClassifier.bind("loader" in sys.argv[2:]))  # type: ignore[attr-defined]  # by the decorator
    try:
        signal.pause()
    except KeyboardInterrupt:
        serve.shutdown()  # type: ignore[no-untyped-call]
        ray.shutdown()
