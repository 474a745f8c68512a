"""Finds the state dict of a model in the checkpoint of any training program.

Training programs nest state dicts (`{"model": ..., "optimizer": ...}`) and prefix names (`module.` by DataParallel,
`_orig_mod.` by torch.compile, `model.` by Lightning). So every dict in a file is tried with every prefix: names and
shapes must be those of the model.
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
"""Depth to which nested dicts are searched."""

_SKIPPED_DICTS: Final = frozenset({"callbacks"})
"""Dicts that are not searched. Lightning keeps an average there whose batch norm has not been updated yet."""

_WRAPPER_NAME_PARTS: Final = frozenset({"module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"})
"""Parts of names that come from wrapping a module, at any depth; none of torchvision's models has them."""

_AVERAGED_WEIGHTS_NAME: Final = re.compile(r"(?i)(^|[._])(ema|swa|averaged?|avg|shadow)([._]|$)")
"""Names of weights that were averaged over the training."""

_IGNORED_TENSOR_NAME: Final = re.compile(r"(^|\.)(n_averaged|total_ops|total_params)$")
"""Names of tensors that are not weights: a counter of torch's averages, and the results of operation counters."""

_OPTIONAL_TENSOR_NAME: Final = re.compile(r"(^|\.)num_batches_tracked$|^(aux\d?|AuxLogits|aux_classifier)\.")
"""Names of a model's tensors that inference does not read."""

_RENAMED_TENSORS: Final = (
    (re.compile(r"(denselayer\d+\.(?:norm|conv))\.([12]\.)"), r"\1\2"),
    (re.compile(r"\.mlp\.linear_1\."), ".mlp.0."),
    (re.compile(r"\.mlp\.linear_2\."), ".mlp.3."),
)
"""Names that torchvision has changed: of DenseNet, still in its own files, and of ViT before version 0.14."""

_MAX_NAMED_TENSORS: Final = 3
"""Most tensors named in a message."""


@dataclass(frozen=True, slots=True)
class Found:
    """A state dict that fits a model.

    Attributes:
        state: tensors by the model's own names.
        place: place in the file, as text; empty if the file is just the state dict.
        averaged: whether the place tells that these are weights averaged over the training.
        beside: other weights in the file, as text.
    """

    state: dict[str, Tensor]
    place: str
    averaged: bool
    beside: str = ""

    def __str__(self) -> str:
        """Describe which weights were taken; follows the file's name."""
        return f"{': ' if self.place else ''}{self.place}{f' ({self.beside})' if self.beside else ''}"


@dataclass(frozen=True, slots=True)
class _Candidate:
    """Tensors of one dict whose names have one prefix, compared with those of the model.

    Attributes:
        misshapen: names of tensors with other shapes; the head may have another first dimension, the classes.
    """

    found: Found
    missing: list[str]
    unexpected: list[str]
    misshapen: list[str]

    @property
    def faults(self) -> int:
        return len(self.missing) + len(self.unexpected) + len(self.misshapen)


def find_state(path: Path, model: State, *, named: str) -> Found:
    """Return the state dict in a weights file that fits a model.

    Weights averaged over the training (EMA, SWA) are preferred to the weights that they average, as in timm; otherwise
    the first in the file is taken.

    Args:
        path: path of the file.
        model: the model's state dict with any number of classes; the head comes last.
        named: names of the weights and the model, for messages.

    Raises:
        InvalidModel: no state dict in the file fits.
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
    """Yield the place and the tensors of every dict in a file that has tensors; outer dicts first."""
    if not isinstance(content, Mapping) or len(place) > _MAX_NESTED_DICTS:
        return
    tensors = {name: value for name, value in content.items() if isinstance(name, str) and isinstance(value, Tensor)}
    if tensors:
        yield place, tensors
    for name, value in content.items():
        if isinstance(name, str) and name not in _SKIPPED_DICTS:
            yield from _states(value, (*place, name))


def _candidates(place: tuple[str, ...], state: State, model: State) -> Iterator[_Candidate]:
    """Yield a candidate for each prefix found before the name of the model's first tensor, and for no prefix."""
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
        if tensors not in seen:  # else the prefix of a wrapper, which selects the same tensors
            yield candidate
        seen.add(tensors)


def _plain(name: str) -> str:
    """Return a name without the parts of wrappers, as torchvision writes it today."""
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
    """Return whether a tensor has its shape in the model; the number of classes may differ."""
    if _OPTIONAL_TENSOR_NAME.search(name):
        return True
    if name.startswith(f"{head_of(model)}.") and tensor.ndim == model[name].ndim > 0 and len(tensor):
        return tensor.shape[1:] == model[name].shape[1:]
    return tensor.shape == model[name].shape


def head_of(model: State) -> str:
    """Return the name of a model's last layer: torchvision's models define it last."""
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
    """Describe other weights in a file: those that fit too, and averages that cannot be used."""
    notes = [f"also there: {', '.join(each.found.place or 'the file itself' for each in fitting)}"] if fitting else []
    unfit = [each for each in candidates if each.found.averaged and 0 < each.faults < len(model)]
    notes += [f"{each.found.place} does not fit: {_differs(each, model)}" for each in unfit]
    if any(isinstance(value, Mapping) and "shadow_params" in value for value in (content, *content.values())):
        notes.append("shadow_params, averaged weights without names, cannot be taken")
    return "; ".join(notes)


def _difference(nearest: _Candidate, model: State) -> str:
    """Describe how the closest state dict of a file differs from the model's, and the likely cause."""
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
