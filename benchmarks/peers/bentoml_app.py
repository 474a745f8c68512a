"""mobilenet_v2 behind BentoML: bentoml serve benchmarks.peers.bentoml_app:BentoMLClassifier; bentoml.txt installs it.

The shape is that of "Adaptive batching" and "Input and output types" of its documentation (1.4): a service whose method
is `batchable` and takes a list of Pillow's images, as files of a form. `workers=2`: as many processes as there are
cores ("Parallelize requests handling"). Transform and model run where the batch arrives.

`max_latency_ms` is left at its default, a minute: with less, requests that it foresees to be late are refused with 503.
"""

from typing import Any

import bentoml
import torch
from PIL.Image import Image
from torchvision.models import MobileNet_V2_Weights, mobilenet_v2

from benchmarks.peers.variants import STAND_IN, stand_in

WEIGHTS = MobileNet_V2_Weights.IMAGENET1K_V1


@bentoml.service(workers=2)
class BentoMLClassifier:
    """One image a request, many requests a batch."""

    def __init__(self) -> None:
        torch.set_num_threads(1)  # two workers share two cores
        self.transform = WEIGHTS.transforms()
        self.model: Any = None if STAND_IN else mobilenet_v2(weights=WEIGHTS).eval()

    @bentoml.api(batchable=True, max_batch_size=8)  # type: ignore[untyped-decorator]  # is not installed where types are checked
    def classify(self, images: list[Image]) -> list[str]:
        """Images -> a label each."""
        pixels = torch.stack([self.transform(image.convert("RGB")) for image in images])
        if self.model is None:
            classes = stand_in(len(pixels))
        else:
            with torch.inference_mode():
                classes = self.model(pixels).argmax(dim=1).tolist()
        return [WEIGHTS.meta["categories"][index] for index in classes]
