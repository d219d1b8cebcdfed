"""Whether a JSON Schema still fits everybody who relies on an older one."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, TypeAlias

Schema: TypeAlias = Mapping[str, Any]

#: Limits, and whether going from the first value to the second refuses what was accepted.
_LIMITS: Final[Mapping[str, Callable[[float, float], bool]]] = {
    "maximum": lambda old, new: new < old,
    "exclusiveMaximum": lambda old, new: new < old,
    "maxLength": lambda old, new: new < old,
    "maxItems": lambda old, new: new < old,
    "minimum": lambda old, new: new > old,
    "exclusiveMinimum": lambda old, new: new > old,
    "minLength": lambda old, new: new > old,
    "minItems": lambda old, new: new > old,
}


def breaks(old: Schema, new: Schema) -> list[str]:
    """Return what of the old schema the new one takes back, one sentence each; nothing when it only adds.

    A field may not vanish, change its type, lose a value of its enumeration, become required, or get a tighter
    limit or another pattern. Types may not widen either: a reader of the old schema would meet what it does not
    know.
    """
    return list(_breaks("", old, old, new, new))


def _breaks(where: str, old: Schema, old_root: Schema, new: Schema, new_root: Schema) -> Iterator[str]:
    old, new = _resolved(old, old_root), _resolved(new, new_root)
    name = where or "the document"
    if (before := _types(old, old_root)) != (after := _types(new, new_root)):
        yield f"{name}: was {', '.join(sorted(before)) or 'anything'}, is {', '.join(sorted(after)) or 'anything'}"
        return
    yield from _tightened(name, old, new)
    for field in set(new.get("required", ())) - set(old.get("required", ())):
        yield f"{_below(where, field)}: became required"
    for field, inner in old.get("properties", {}).items():
        if field not in new.get("properties", {}):
            yield f"{_below(where, field)}: was removed"
        else:
            yield from _breaks(_below(where, field), inner, old_root, new["properties"][field], new_root)
    yield from _inside(where, old, old_root, new, new_root)


def _inside(where: str, old: Schema, old_root: Schema, new: Schema, new_root: Schema) -> Iterator[str]:
    """Compare what lists and tables hold, and the alternatives of a union one by one."""
    for keyword, mark in (("items", "[]"), ("additionalProperties", "{}")):
        if isinstance(old.get(keyword), Mapping) and isinstance(new.get(keyword), Mapping):
            yield from _breaks(where + mark, old[keyword], old_root, new[keyword], new_root)
    for first, second in zip(old.get("anyOf", ()), new.get("anyOf", ()), strict=False):
        yield from _breaks(where, first, old_root, second, new_root)


def _below(where: str, field: str) -> str:
    return f"{where}.{field}" if where else field


def _resolved(schema: Schema, root: Schema) -> Schema:
    while schema.get("$ref", "").startswith("#/"):
        target: Any = root
        for part in schema["$ref"].removeprefix("#/").split("/"):
            target = target[part]
        schema = target
    return schema


def _types(schema: Schema, root: Schema) -> frozenset[str]:
    schema = _resolved(schema, root)
    if "anyOf" in schema:
        return frozenset().union(*(_types(one, root) for one in schema["anyOf"]))
    if "$ref" in schema:  # into another file, which is compared by itself
        return frozenset({schema["$ref"]})
    types = schema.get("type", ())
    return frozenset({types} if isinstance(types, str) else types)


def _tightened(name: str, old: Schema, new: Schema) -> Iterator[str]:
    if "enum" in new and (gone := set(old.get("enum", ())) - set(new["enum"])):
        yield f"{name}: no longer accepts {', '.join(sorted(map(str, gone)))}"
    if "enum" in new and "enum" not in old:
        yield f"{name}: accepts only {', '.join(map(str, new['enum']))} now"
    if "pattern" in new and old.get("pattern") != new["pattern"]:
        yield f"{name}: must match {new['pattern']} now"
    for limit, is_tighter in _LIMITS.items():
        if limit in new and (limit not in old or is_tighter(old[limit], new[limit])):
            yield f"{name}: {limit} is {new[limit]} now, was {old.get(limit, 'without')}"
