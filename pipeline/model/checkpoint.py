"""The state dict of a model, found in whatever its trainer has written.

Trainers nest state dicts (`{"model": ..., "optimizer": ...}`) and prefix names (`module.` by DataParallel, `_orig_mod.`
by torch.compile, `model.` by Lightning). So every dict in a file and every prefix in it is tried: the names and shapes
have to be the model's.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from torch import Tensor

from pipeline.errors import InvalidModel
from pipeline.model.checkpoint_file import Placeholder, read_checkpoint

State = Mapping[str, Tensor]

_MAX_NESTED_DICTS: Final = 4
"""Dicts within each other that are looked into."""

_SKIPPED_DICTS: Final = frozenset({"callbacks"})
"""Dicts that are not looked into. Lightning keeps an average there whose batch norm has not been updated yet."""

_WRAPPER_NAME_PARTS: Final = frozenset({"module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"})
"""Parts of names that come from wrapping a module, at any depth; none of torchvision's models has them."""

_AVERAGED_WEIGHTS_NAME: Final = re.compile(r"(?i)(^|[._])(ema|swa|averaged?|avg|shadow)([._]|$)")
"""Names of weights that were averaged over the training."""

_IGNORED_TENSOR_NAME: Final = re.compile(r"(^|\.)(n_averaged|total_ops|total_params)$")
"""Names beside a model's own: a counter of torch's averages, and what counters of operations leave in every module."""

_OPTIONAL_TENSOR_NAME: Final = re.compile(r"(^|\.)num_batches_tracked$|^(aux\d?|AuxLogits)\.")
"""Names that a model has and inference does not read."""

_RENAMED_TENSORS: Final = (
    (re.compile(r"(denselayer\d+\.(?:norm|conv))\.([12]\.)"), r"\1\2"),
    (re.compile(r"\.mlp\.linear_1\."), ".mlp.0."),
    (re.compile(r"\.mlp\.linear_2\."), ".mlp.3."),
)
"""Names that torchvision has changed: DenseNet's, which its own files still have, and before 0.14 those of ViT."""

_MAX_NAMED_TENSORS: Final = 3
"""Tensors named in a message."""


@dataclass(frozen=True, slots=True)
class Found:
    """A state dict that fits a model.

    Attributes:
        state: by the model's own names.
        place: where it was in the file, for people; empty where the file is nothing else.
        averaged: whether by its place it is an average over the training.
        beside: other weights in the file, for people.
    """

    state: dict[str, Tensor]
    place: str
    averaged: bool
    beside: str = ""

    def __str__(self) -> str:
        """Describes, after the file's name, which weights were taken."""
        return f"{': ' if self.place else ''}{self.place}{f' ({self.beside})' if self.beside else ''}"


@dataclass(frozen=True, slots=True)
class _Candidate:
    """Tensors of one dict whose names have one prefix, beside the model's.

    Attributes:
        misshapen: names whose shapes differ; the first dimension of the head's may, as classes do.
    """

    found: Found
    missing: list[str]
    unexpected: list[str]
    misshapen: list[str]

    @property
    def faults(self) -> int:
        return len(self.missing) + len(self.unexpected) + len(self.misshapen)


def find_state(path: Path, model: State, *, named: str) -> Found:
    """The state dict in a file of weights that fits a model.

    An average over the training (EMA, SWA) goes before the weights that it is an average of, as in timm; otherwise the
    first in the file is taken.

    Args:
        path: of the file.
        model: its state dict with any number of classes; the head comes last in it.
        named: the weights and the model, for messages.

    Raises:
        InvalidModel: there is none.
    """
    content = read_checkpoint(path)
    candidates = [each for place, state in _states(content) for each in _candidates(place, state, model)]
    if not candidates:
        raise InvalidModel(f"weights: {path.absolute()} {_without_states(content)}")
    fitting = [each for each in candidates if not each.faults]
    if not fitting:
        nearest = min(candidates, key=lambda each: each.faults)
        raise InvalidModel(f"{named}: {_difference(nearest, model)}")
    fitting.sort(key=lambda each: not each.found.averaged)
    return replace(fitting[0].found, beside=_beside(content, fitting[1:], candidates, model))


# ---- every dict and every prefix ------------------------------------------------------------------------------------


def _states(content: Any, place: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], State]]:
    """The tensors of every dict in a file that has some, and its place; outer ones first."""
    if not isinstance(content, Mapping) or len(place) > _MAX_NESTED_DICTS:
        return
    tensors = {name: value for name, value in content.items() if isinstance(name, str) and isinstance(value, Tensor)}
    if tensors:
        yield place, tensors
    for name, value in content.items():
        if isinstance(name, str) and name not in _SKIPPED_DICTS:
            yield from _states(value, (*place, name))


def _candidates(place: tuple[str, ...], state: State, model: State) -> Iterator[_Candidate]:
    """One for each prefix that may be the model's: before the name of its first tensor, and none at all."""
    first, prefixes = next(iter(model)), {""}
    for name in state:
        if f".{_plain(name)}".endswith(f".{first}"):
            parts = name.split(".")
            ends = [at for at in range(len(parts)) if _plain(".".join(parts[at:])) == first]
            prefixes.add("".join(f"{part}." for part in parts[: ends[-1]]))
    seen = set[frozenset[int]]()
    for prefix in sorted(prefixes, key=len, reverse=True):
        candidate = _candidate(place, prefix, state, model)
        tensors = frozenset(map(id, candidate.found.state.values()))
        if tensors not in seen:  # else a wrapper's prefix, by which nothing is left out
            yield candidate
        seen.add(tensors)


def _plain(name: str) -> str:
    """The name that torchvision has today, without wrappers."""
    name = ".".join(part for part in name.split(".") if part not in _WRAPPER_NAME_PARTS)
    for old, new in _RENAMED_TENSORS:
        name = old.sub(new, name)
    return name


def _candidate(place: tuple[str, ...], prefix: str, state: State, model: State) -> _Candidate:
    inner = {
        _plain(name.removeprefix(prefix)): value
        for name, value in state.items()
        if name.startswith(prefix) and not _IGNORED_TENSOR_NAME.search(name)
    }
    missing = [name for name in model if name not in inner and not _OPTIONAL_TENSOR_NAME.search(name)]
    unexpected = [name for name in inner if name not in model]
    misshapen = [name for name in inner if name in model and not _has_shape(inner[name], name, model)]
    where = ".".join(place) + (f", names after {prefix}" if prefix else "")
    averaged = any(_AVERAGED_WEIGHTS_NAME.search(part) for part in (*place, prefix))
    return _Candidate(Found(inner, where.removeprefix(", "), averaged), missing, unexpected, misshapen)


def _has_shape(tensor: Tensor, name: str, model: State) -> bool:
    """Whether a tensor has its shape in the model, but for the number of classes."""
    if _OPTIONAL_TENSOR_NAME.search(name):
        return True
    if name.startswith(f"{head_of(model)}.") and tensor.ndim == model[name].ndim > 0 and len(tensor):
        return tensor.shape[1:] == model[name].shape[1:]
    return tensor.shape == model[name].shape


def head_of(model: State) -> str:
    """The name of a model's last layer: torchvision's models define it last."""
    return list(model)[-1].rpartition(".")[0]


# ---- messages -------------------------------------------------------------------------------------------------------


def _without_states(content: Any) -> str:
    if isinstance(content, Placeholder) and content.is_module:
        modules = [content]
    else:
        values = content.values() if isinstance(content, Mapping) else ()
        modules = [value for value in values if isinstance(value, Placeholder) and value.is_module]
    if modules:
        return (
            f"holds a pickled module ({type(modules[0]).__name__}), which is code and is not run; save its state dict "
            "where it was trained, by torch.save(model.state_dict(), path)"
        )
    if isinstance(content, Mapping) and "shadow_params" in content:
        return (
            "holds averaged weights without names (shadow_params, by torch_ema); copy them to the model where it was "
            "trained, by ema.copy_to(model.parameters()), and save torch.save(model.state_dict(), path)"
        )
    return f"holds no state dict, but a {type(content).__name__}"


def _beside(content: Any, fitting: list[_Candidate], candidates: list[_Candidate], model: State) -> str:
    """Other weights in a file: those that fit too, and averages that cannot be taken."""
    notes = [f"also there: {', '.join(each.found.place or 'the file itself' for each in fitting)}"] if fitting else []
    unfit = [each for each in candidates if each.found.averaged and 0 < each.faults < len(model)]
    notes += [f"{each.found.place} does not fit: {_differs(each, model)}" for each in unfit]
    if any(isinstance(value, Mapping) and "shadow_params" in value for value in (content, *content.values())):
        notes.append("shadow_params, averaged weights without names, cannot be taken")
    return "; ".join(notes)


def _difference(nearest: _Candidate, model: State) -> str:
    """Describes how the nearest state dict of a file does not fit the model, and the likely cause."""
    where = f"in {nearest.found.place}, " if nearest.found.place else ""
    return f"{where}{_differs(nearest, model)}; {_likely_cause(nearest, model)}"


def _differs(candidate: _Candidate, model: State) -> str:
    state, parts = candidate.found.state, []
    if candidate.missing:
        parts.append(f"{len(candidate.missing)} of {len(model)} tensors are missing ({_some(candidate.missing)})")
    if candidate.unexpected:
        parts.append(f"{len(candidate.unexpected)} are not the model's ({_some(candidate.unexpected)})")
    if candidate.misshapen:
        name = candidate.misshapen[0]
        shapes = f"{list(state[name].shape)} instead of {list(model[name].shape)}"
        parts.append(f"{len(candidate.misshapen)} have another shape ({name}: {shapes})")
    return ", ".join(parts)


def _some(names: list[str]) -> str:
    return ", ".join(names[:_MAX_NAMED_TENSORS]) + (", ..." if len(names) > _MAX_NAMED_TENSORS else "")


def _likely_cause(nearest: _Candidate, model: State) -> str:
    head = head_of(model)
    if any("_packed_params" in name or value.is_quantized for name, value in nearest.found.state.items()):
        return "they are quantized: save the state dict of the float model"
    wanting = nearest.missing + nearest.misshapen
    if wanting and all(name.startswith(f"{head}.") for name in wanting):
        return f"the rest fits: is the last layer, {head}, built as torchvision builds it?"
    return "they are perhaps of another architecture"
