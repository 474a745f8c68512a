"""Image inference: encoded images in, predictions out. Plain torch, without Ray and HTTP."""

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from pipeline.config import PipelineConfig
    from pipeline.engine import Engine
    from pipeline.head_parameters import DecimalNumber, OneOf, WholeNumber
    from pipeline.images.geometry import Geometry
    from pipeline.model.classify import Classification, Classify
    from pipeline.model.detect import Detect, Detections
    from pipeline.model.embed import Embed, Embedding
    from pipeline.model.multilabel import ClassScores, Multilabel
    from pipeline.model.resize_to_fit import Fit
    from pipeline.model.segment import Segment, Segmentation
    from pipeline.model.served import Head, Preprocess, ServedModel
    from pipeline.records import EncodedImage, Prediction, Rejection
    from pipeline.result import Result

__all__ = [
    "ClassScores",
    "Classification",
    "Classify",
    "DecimalNumber",
    "Detect",
    "Detections",
    "Embed",
    "Embedding",
    "EncodedImage",
    "Engine",
    "Fit",
    "Geometry",
    "Head",
    "Multilabel",
    "OneOf",
    "PipelineConfig",
    "Prediction",
    "Preprocess",
    "Rejection",
    "Result",
    "Segment",
    "Segmentation",
    "ServedModel",
    "WholeNumber",
]

_MODULES: Final = {
    "ClassScores": "model.multilabel",
    "Classification": "model.classify",
    "Classify": "model.classify",
    "Detect": "model.detect",
    "Detections": "model.detect",
    "DecimalNumber": "head_parameters",
    "Embed": "model.embed",
    "Embedding": "model.embed",
    "EncodedImage": "records",
    "Engine": "engine",
    "Fit": "model.resize_to_fit",
    "Geometry": "images.geometry",
    "Head": "model.served",
    "Multilabel": "model.multilabel",
    "OneOf": "head_parameters",
    "PipelineConfig": "config",
    "Prediction": "records",
    "Preprocess": "model.served",
    "Rejection": "records",
    "Segment": "model.segment",
    "Segmentation": "model.segment",
    "Result": "result",
    "ServedModel": "model.served",
    "WholeNumber": "head_parameters",
}


def __getattr__(name: str) -> Any:
    """Import a name on first access: importing torch takes seconds, and most modules of this package do without it."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
