"""Records as columns: so that very many of them are stored and read back fast.

A model (or a dataclass of pydantic) becomes an Arrow struct, a tuple of models a list of structs, and whatever else is
no plain number or text becomes JSON that stands once for all records that share it (the factors of a cell, the versions
of a machine). The shape is read off the models' own fields, so a field that is added to a record is a column without a
word here.
"""

import hashlib
import json
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import is_dataclass
from inspect import getattr_static
from itertools import accumulate, pairwise, repeat
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, get_args, get_origin

import pyarrow as pa
from pydantic import TypeAdapter
from pydantic.fields import FieldInfo

Model = TypeVar("Model")
_PLAIN = {int: pa.int64(), float: pa.float64(), str: pa.string()}


def packed(kind: type[Model], objects: Sequence[Model]) -> pa.StructArray:
    """Return models of one kind as an Arrow array with a field for each of theirs.

    Args:
        kind: A model, or a dataclass of pydantic that has slots.
        objects: Of that kind.

    Raises:
        pyarrow.ArrowException, OverflowError: a value that no column can hold, such as an integer above 64 bits.
    """
    fields = _fields_of(kind)
    columns = [_packed(field.annotation, [getattr(one, name) for one in objects]) for name, field in fields.items()]
    return pa.StructArray.from_arrays(columns, list(fields))


def unpacked(kind: type[Model], array: pa.StructArray) -> list[Model]:
    """Return what `packed` was given.

    The values came out of models that had been validated, so they are not validated again: that is where the time is.
    """
    fields = _fields_of(kind)
    columns = [_unpacked(field.annotation, array.field(name)) for name, field in fields.items()]
    slots: dict[str, Iterable[Any]]
    if is_dataclass(kind):
        slots = dict(zip(fields, columns, strict=True))
    else:
        slots = {
            "__dict__": map(dict, map(zip, repeat(list(fields)), zip(*columns, strict=True))),
            "__pydantic_fields_set__": repeat({*fields}),  # one set for all: it can hold no more than it does
            "__pydantic_extra__": repeat(None),
            "__pydantic_private__": repeat(None),
        }
    found = list(map(object.__new__, repeat(kind, len(array))))
    for slot, values in slots.items():  # slot by slot, so that no line of Python is run for each of a million objects
        deque(map(getattr_static(kind, slot).__set__, found, values), maxlen=0)
    return found


def shape_of(kind: type[Model]) -> str:
    """Return a hash that changes whenever a model's fields or their types do."""
    return hashlib.sha256(json.dumps(TypeAdapter(kind).json_schema(), sort_keys=True).encode()).hexdigest()


def _packed(annotation: Any, values: list[Any]) -> pa.Array:
    if model := _model_in(annotation):
        if annotation is model:
            return packed(model, values)
        ends = [0, *accumulate(len(inner) for inner in values)]
        return pa.ListArray.from_arrays(
            pa.array(ends, pa.int32()), packed(model, [one for inner in values for one in inner])
        )
    if plain := _plain(annotation):
        return pa.array(values, plain)
    adapter = TypeAdapter(annotation)
    return pa.array([adapter.dump_json(value).decode() for value in values], pa.string())


def _unpacked(annotation: Any, array: pa.Array) -> list[Any]:
    if model := _model_in(annotation):
        if annotation is model:
            return unpacked(model, array)
        inner: list[Any] = unpacked(model, array.flatten())
        ends = [0, *accumulate(array.value_lengths().to_pylist())]
        return [tuple(inner[start:end]) for start, end in pairwise(ends)]
    plain = _plain(annotation)
    if plain and plain != pa.string():
        return list(array.to_pylist())
    # Equal texts become one object: there are few of them, in many rows.
    encoded = array.dictionary_encode()
    distinct = encoded.dictionary.to_pylist()
    if not plain:
        adapter = TypeAdapter(annotation)
        distinct = [adapter.validate_json(text) for text in distinct]
    return [None if index is None else distinct[index] for index in encoded.indices.to_pylist()]


def _fields_of(kind: type) -> dict[str, FieldInfo]:
    """Return the fields of a model or of a dataclass of pydantic; of anything else none."""
    return getattr(kind, "__pydantic_fields__", {})


def _model_in(annotation: Any) -> type | None:
    """Return the model that an annotation is, or that it is a tuple of."""
    inner = get_args(annotation)[0] if get_origin(annotation) is tuple else annotation
    return inner if _fields_of(inner) else None


def _plain(annotation: Any) -> pa.DataType | None:
    """Return the type of a column of numbers or texts that may be missing; None for what takes JSON."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        kinds = {type(value) for value in arguments}
    else:
        kinds = {*arguments} - {NoneType} if origin is UnionType else {annotation}
    return _PLAIN.get(kinds.pop()) if len(kinds) == 1 else None
