"""Records as columns: so that very many of them are stored and read back fast.

A model becomes an Arrow struct, a tuple of models a list of structs, and whatever else is no plain number or text
becomes JSON that stands once for all records that share it (the factors of a cell, the versions of a machine). The
shape is read off the models' own fields, so a field that is added to a record is a column without a word here.
"""

import hashlib
import json
from collections import deque
from collections.abc import Sequence
from itertools import accumulate, pairwise, repeat
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, get_args, get_origin

import pyarrow as pa
from pydantic import BaseModel, TypeAdapter

Model = TypeVar("Model", bound=BaseModel)
_PLAIN = {int: pa.int64(), float: pa.float64(), str: pa.string()}


def packed(kind: type[BaseModel], objects: Sequence[BaseModel]) -> pa.StructArray:
    """Return models of one kind as an Arrow array with a field for each of theirs.

    Raises:
        pyarrow.ArrowException, OverflowError: a value that no column can hold, such as an integer above 64 bits.
    """
    names = list(kind.model_fields)
    columns = [
        _packed(field.annotation, [getattr(one, name) for one in objects]) for name, field in kind.model_fields.items()
    ]
    return pa.StructArray.from_arrays(columns, names)


def unpacked(kind: type[Model], array: pa.StructArray) -> list[Model]:
    """Return what `packed` was given.

    The values came out of models that had been validated, so they are not validated again: that is where the time is.
    """
    names, fields = list(kind.model_fields), set(kind.model_fields)  # one set for all: it can hold no more than it does
    columns = [_unpacked(field.annotation, array.field(name)) for name, field in kind.model_fields.items()]
    found = list(map(kind.__new__, repeat(kind, len(array))))
    slots = {"__pydantic_fields_set__": fields, "__pydantic_extra__": None, "__pydantic_private__": None}
    for name, values in (*zip(names, columns, strict=True), *((name, repeat(value)) for name, value in slots.items())):
        # Field by field, so that no line of Python is run for each of a million objects.
        deque(map(object.__setattr__, found, repeat(name), values), maxlen=0)
    return found


def shape_of(kind: type[BaseModel]) -> str:
    """Return a hash that changes whenever a model's fields or their types do."""
    return hashlib.sha256(json.dumps(kind.model_json_schema(), sort_keys=True).encode()).hexdigest()


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
        inner = unpacked(model, array.flatten())
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


def _model_in(annotation: Any) -> type[BaseModel] | None:
    """Return the model that an annotation is, or that it is a tuple of."""
    inner = get_args(annotation)[0] if get_origin(annotation) is tuple else annotation
    return inner if isinstance(inner, type) and issubclass(inner, BaseModel) else None


def _plain(annotation: Any) -> pa.DataType | None:
    """Return the type of a column of numbers or texts that may be missing; None for what takes JSON."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        kinds = {type(value) for value in arguments}
    else:
        kinds = {*arguments} - {NoneType} if origin is UnionType else {annotation}
    return _PLAIN.get(kinds.pop()) if len(kinds) == 1 else None
