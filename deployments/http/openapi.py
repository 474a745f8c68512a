"""The document of GET /openapi.json: `openapi.yaml`, with the parameters and results of the model's head in service."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import yaml

from pipeline.head_parameters import Parameter

_TEMPLATE: Final = Path(__file__).parent.with_name("openapi.yaml")


def openapi_document(parameters: Mapping[str, Parameter], schema: Mapping[str, Any]) -> dict[str, Any]:
    """Return the description of the service, without its address. To be made once: parsing the YAML takes 25 ms.

    Args:
        parameters: what a request may send with its images, by name.
        schema: JSON Schema of a result, an object.
    """
    document: dict[str, Any] = yaml.safe_load(_TEMPLATE.read_text("utf-8"))
    for operation in document["paths"]["/predict"].values():
        operation["parameters"] = [_described(*each) for each in parameters.items()] + operation["parameters"]
        form = operation["requestBody"]["content"]["multipart/form-data"]["schema"]
        form["properties"] = {name: parameter.schema for name, parameter in parameters.items()}
    schemas = document["components"]["schemas"]
    schemas["Result"] = {**schema}
    one = schemas["One"]
    schemas["One"] = {
        **schema,
        "required": [*one["required"], *schema.get("required", ())],
        "properties": {**one["properties"], **schema.get("properties", {})},
    }
    return document


def _described(name: str, parameter: Parameter) -> dict[str, Any]:
    described = f"{parameter.description} Usually {parameter.default}; `user_config` may set it for the service."
    return {"name": name, "in": "query", "description": described.strip(), "schema": parameter.schema}
