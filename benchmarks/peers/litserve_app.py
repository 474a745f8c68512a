"""mobilenet_v2 behind LitServe: python litserve_app.py PORT, in an environment made from litserve.txt.

The shape is that of its README and of the docstrings of `LitAPI` and `LitServer` (0.2.19): `decode_request` an image,
`predict` a batch, `encode_response` an answer. From their lists of options:

- `max_batch_size=8, batch_timeout=0.005`: gather what arrives within 5 ms;
- `workers_per_device=2`: on a CPU as many as there are cores;
- `restart_workers=True`: replace a worker that has died. By default the server shuts down instead.

What they have no option for: a limit on the queue (`timeout`, 30 s unless set, is checked when a worker takes the
request; what a callback `on_request` raises is only logged), and an error of one request among a batch: whatever
`decode_request` raises is every request's of that batch (https://github.com/Lightning-AI/LitServe/issues/340).
"""

import sys
from typing import Any

import litserve
import torch
from fastapi import HTTPException, Request
from PIL import Image
from torchvision.models import MobileNet_V2_Weights, mobilenet_v2

from benchmarks.peers.variants import DARKROOM_DECODES, STAND_IN, our_pixels, stand_in

WEIGHTS = MobileNet_V2_Weights.IMAGENET1K_V1


class LitServeClassifier(litserve.LitAPI):  # type: ignore[misc]  # is not installed where types are checked
    """One image a request, a part `image` of a form; many requests a batch."""

    def setup(self, device: str) -> None:
        """Run once in each worker."""
        torch.set_num_threads(1)  # two workers share two cores
        self.transform = WEIGHTS.transforms()
        self.model = None if STAND_IN else mobilenet_v2(weights=WEIGHTS).eval().to(device)

    def decode_request(self, request: Request) -> torch.Tensor:
        """Decode the image of a form -> float32 [3, 224, 224]; the default `batch` stacks them."""
        if DARKROOM_DECODES:
            return torch.from_numpy(our_pixels(request["image"].file.read()))
        try:
            image = Image.open(request["image"].file).convert("RGB")
        except Exception as error:
            raise HTTPException(422, f"cannot decode the image: {error}") from error
        pixels: torch.Tensor = self.transform(image)
        return pixels

    def predict(self, batch: torch.Tensor) -> list[int]:
        """float32 [n, 3, 224, 224] -> a class an image."""
        if self.model is None:
            return stand_in(len(batch))
        with torch.inference_mode():
            classes: list[int] = self.model(batch).argmax(dim=1).tolist()
        return classes

    def encode_response(self, output: int) -> dict[str, Any]:
        """Return the JSON document of a class."""
        return {"label": WEIGHTS.meta["categories"][output]}


if __name__ == "__main__":
    server = litserve.LitServer(
        LitServeClassifier(max_batch_size=8, batch_timeout=0.005),
        accelerator="cpu",
        workers_per_device=2,
        restart_workers=True,
    )
    server.run(host="127.0.0.1", port=int(sys.argv[1]), generate_client_file=False, log_level="warning")
