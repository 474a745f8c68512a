"""Image inference: encoded images in, predictions out. Plain torch, without Ray and HTTP."""

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from pipeline.config import PipelineConfig
    from pipeline.engine import Engine
    from pipeline.images.geometry import Geometry
    from pipeline.model.classify import Classification, Classify
    from pipeline.model.detect import Detect, Detections
    from pipeline.model.segment import Segment, Segmentation
    from pipeline.model.served import Head, Preprocess, ServedModel
    from pipeline.records import Prediction, Rejection

__all__ = [
    "Classification",
    "Classify",
    "Detect",
    "Detections",
    "Engine",
    "Geometry",
    "Head",
    "PipelineConfig",
    "Prediction",
    "Preprocess",
    "Rejection",
    "Segment",
    "Segmentation",
    "ServedModel",
]

_MODULES: Final = {
    "Classification": "model.classify",
    "Classify": "model.classify",
    "Detect": "model.detect",
    "Detections": "model.detect",
    "Engine": "engine",
    "Geometry": "images.geometry",
    "Head": "model.served",
    "PipelineConfig": "config",
    "Prediction": "records",
    "Preprocess": "model.served",
    "Rejection": "records",
    "Segment": "model.segment",
    "Segmentation": "model.segment",
    "ServedModel": "model.served",
}


def __getattr__(name: str) -> Any:
    """Import a name on first access: importing torch takes seconds, and most modules of this package do without it."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
