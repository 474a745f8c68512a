"""Labels the images of a dataset on all nodes of a Ray cluster, with Ray Data.

    python -m examples.label_dataset s3://bucket/photographs s3://bucket/labels --engines 8
    python -m examples.label_dataset photographs.parquet labels --column image

The second path is a new folder for Parquet files: one row for each image, with its prediction as JSON, or its error.
Every node needs this file, and Darkroom with the extra `data` (docs/models.md).
"""

import argparse
import asyncio
import hashlib
from pathlib import Path

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import ray.data
from pyarrow.fs import FileSystem, FileType

from pipeline import Engine, PipelineConfig, Prediction

CONFIG = PipelineConfig(model="mobilenet_v2", decode_workers=1, concurrent_batches=1)
CORES = 2
"""Cores that an engine reserves of its node: one for each worker, and on the CPU one for each concurrent batch."""

READERS_PER_ENGINE = 2
"""Tasks for each engine that read files at a time; write more where files come slowly, as from S3.

Reading reserves no cores, so without a limit Ray would start up to 200 tasks at once, each a process.
"""

IMAGES_PER_CALL = 64


class Labeller:
    """An engine that labels a column of images, several calls at a time, so that it never waits for the next one.

    It writes its rows itself: rows that wait on a node for somebody else would be lost with the node.
    """

    def __init__(self, column: str, labels: str, config: PipelineConfig) -> None:
        self._column, self._engine = column, Engine(config)
        self._files, self._folder = FileSystem.from_uri(labels)
        self._engine.start()
        self._usual = {name: parameter.default for name, parameter in self._engine.head.parameters.items()}

    async def __call__(self, rows: pa.Table) -> pa.Table:
        """Write the rows with `prediction` and `error`, of which one is null, in place of the images; count them."""
        images = [image or b"" for image in rows[self._column].to_pylist()]
        outcomes = await asyncio.to_thread(self._engine.infer, images)
        found = [self._as_text(each) if isinstance(each, Prediction) else None for each in outcomes]
        errors = [None if isinstance(each, Prediction) else str(each.error) for each in outcomes]
        others = rows.drop_columns([self._column])
        labelled = others.append_column("prediction", pa.array(found, pa.string()))
        labelled = labelled.append_column("error", pa.array(errors, pa.string()))
        # Rows that are labelled again, after the loss of a node, get the same name, and so replace themselves.
        name = hashlib.sha256(b"".join([repr(others.to_pydict()).encode(), *images])).hexdigest()
        await asyncio.to_thread(pq.write_table, labelled, f"{self._folder}/{name}.parquet", filesystem=self._files)
        return pa.table({"rows": [len(images)]})

    def _as_text(self, prediction: Prediction) -> str:
        return orjson.dumps(prediction.as_json(**self._usual), option=orjson.OPT_SERIALIZE_NUMPY).decode()

    def __del__(self) -> None:
        """End the engine before Ray ends the processes of its actor."""
        self._engine.close()


def label(source: str, labels: str, column: str | None, engines: int, config: PipelineConfig = CONFIG) -> None:
    """Label files, or a column of Parquet files, on this many engines.

    Reading reserves no cores, so the cluster needs `engines` times `CORES`.

    Raises:
        FileExistsError: there is something at the path for the results already.
    """
    labels = labels if "://" in labels else str(Path(labels).absolute())
    files, folder = FileSystem.from_uri(labels)
    if files.get_file_info(folder).type != FileType.NotFound:
        raise FileExistsError(f"{labels} exists; name a new folder")
    files.create_dir(folder)
    nothing, readers = {"num_cpus": 0}, READERS_PER_ENGINE * engines
    if column is None:
        column = "bytes"
        images = ray.data.read_binary_files(source, include_paths=True, ray_remote_args=nothing, concurrency=readers)
    else:
        images = ray.data.read_parquet(source, ray_remote_args=nothing, concurrency=readers)
    labelled = images.map_batches(
        Labeller,
        fn_constructor_args=(column, labels, config),
        batch_size=IMAGES_PER_CALL,
        batch_format="pyarrow",
        compute=ray.data.ActorPoolStrategy(size=engines, max_concurrent_calls_per_actor=2),
        num_cpus=CORES,
    )
    labelled.materialize()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", help="a folder or a file, on a disk that all nodes share, or s3://, gs://")
    parser.add_argument("labels", help="a new folder for the results")
    parser.add_argument("--column", help="the source is Parquet, with encoded images in this column")
    parser.add_argument("--engines", type=int, default=1, help="engines that work at a time")
    arguments = parser.parse_args()
    label(arguments.source, arguments.labels, arguments.column, arguments.engines)
