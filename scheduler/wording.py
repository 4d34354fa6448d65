"""What pydantic refuses, in the words of the person who wrote it: where, what was given, what is allowed.

Pydantic decides; the wording comes from the model's JSON schema, so that a message tells the whole rule and not only
the bound that was broken.
"""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

from pydantic import BaseModel, ValidationError

from jobs.errors import did_you_mean
from scheduler.places import Path

Schema = dict[str, Any]
MOST_NAMES = 12  # that a table or a sentence has room for
NUMBERS = {"number": "a number", "integer": "a whole number"}


@dataclass(frozen=True)
class Wrong:
    """One value, or with `at_key` one name, that a model refuses."""

    path: Path  # within the validated data
    message: str
    at_key: bool = False


def explain(model: type[BaseModel], error: ValidationError, unknown: str) -> Iterator[Wrong]:
    """Each problem in words; `unknown` begins the message about a name at the top: "there is no key"."""
    for found in error.errors(include_url=False):
        path, schema = _follow(schema_of(model), found["loc"])
        given_value = found["input"]
        match found["type"]:
            case "extra_forbidden":
                *parent, name = path
                known = narrow(_follow(schema_of(model), found["loc"][:-1])[1]).get("properties", {})
                start = f'{parent[-1]} has no key "{name}"' if parent else f'{unknown} "{name}"'
                yield Wrong(path, f"{start}{suggestion(name, known)}Allowed: {listed(known)}", at_key=True)
            case "missing":
                yield Wrong(path, f"is missing; allowed is {allowed(schema)}")
            case "union_tag_invalid":
                union = narrow(schema)["discriminator"]
                key = union["propertyName"]
                yield Wrong((*path, key), not_one_of(given_value[key], union["mapping"]))
            case _:
                yield Wrong(path, refusal(given_value, schema))


def refusal(value: Any, schema: Schema) -> str:
    """'was given -1; allowed is a number above 0 and at most 100'."""
    names = _names(schema)
    if names and isinstance(value, str):
        return not_one_of(value, names)
    text = " (text)" if isinstance(value, str) and '"string"' not in json.dumps(schema) else ""
    return f"was given {given(value)}{text}; allowed is {allowed(schema)}"


def not_one_of(value: Any, names: Iterable[str]) -> str:
    """'was given "adm"; did you mean "adam"? Allowed: adam, sgd'."""
    return f"was given {given(value)}{suggestion(value, names)}Allowed: {listed(names)}"


def suggestion(value: Any, names: Iterable[str]) -> str:
    """What stands between "there is no x" and "Allowed: …": a question when a name is near, else a full stop."""
    return f"{did_you_mean(value, names)} " if isinstance(value, str) else ". "


def listed(names: Iterable[str]) -> str:
    return ", ".join(names)


def given(value: Any, limit: int = 60) -> str:
    """A value as it would stand in a sweep file, cut where it is long."""
    text = json.dumps(value, ensure_ascii=False, default=repr)
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


def allowed(schema: Schema) -> str:
    """A rule in words: 'a whole number, at least 1'."""
    if "discriminator" in schema:
        return f"{{name: {' | '.join(schema['discriminator']['mapping'])}, …}}"
    if "anyOf" in schema:
        return _either([word for option in schema["anyOf"] for word in _names(option) or [allowed(option)]])
    if names := _names(schema):
        return _either(names if len(names) <= MOST_NAMES else [*names[:6], f"one of {len(names) - 6} others"])
    kind = schema.get("type")
    if kind in NUMBERS:
        return NUMBERS[kind] + _range(schema)
    if kind == "array":
        return f"a list{_count(schema)}, each {allowed(schema['items'])}"
    return {"boolean": "true or false", "null": "null", "string": _text(schema)}.get(str(kind), "a {key: value} object")


def _count(schema: Schema) -> str:
    """Of a list's values."""
    if "minItems" in schema and "maxItems" in schema:
        return f" of {schema['minItems']:,} to {schema['maxItems']:,} values"
    return f" of at most {schema['maxItems']} values" if "maxItems" in schema else ""


def _either(words: list[str]) -> str:
    return " or ".join(filter(None, (", ".join(words[:-1]), words[-1])))


def _text(schema: Schema) -> str:
    return f"a text of {schema['description']}" if "pattern" in schema else "a text"  # which it describes


def _range(schema: Schema) -> str:
    if "minimum" in schema and "maximum" in schema:
        return f" from {schema['minimum']:,} to {schema['maximum']:,}"
    words = {"exclusiveMinimum": "above", "minimum": "at least", "exclusiveMaximum": "below", "maximum": "at most"}
    bounds = [f"{words[bound]} {schema[bound]:,}" for bound in words if bound in schema]
    return f", {' and '.join(bounds)}" if bounds else ""


def _names(schema: Schema) -> list[str]:
    """The words that a schema lists: of Literal["a", "b"]."""
    if schema.get("type") != "string":
        return []
    names: list[str] = schema.get("enum", [schema["const"]] if "const" in schema else [])
    return names


@cache
def schema_of(model: type[BaseModel]) -> Schema:
    """The model's JSON schema with every reference replaced by what it refers to."""
    schema = model.model_json_schema()
    definitions = schema.pop("$defs", {})

    def whole(part: Any) -> Any:
        if isinstance(part, list):
            return [whole(item) for item in part]
        if not isinstance(part, dict):
            return part
        if "$ref" in part:
            return whole(definitions[part["$ref"].rpartition("/")[2]])
        if "discriminator" in part:
            tags = part["discriminator"]["mapping"]
            mapping = {tag: whole({"$ref": reference}) for tag, reference in tags.items()}
            return part | {"discriminator": part["discriminator"] | {"mapping": mapping}, "oneOf": []}
        return {key: whole(value) for key, value in part.items()}

    result: Schema = whole(schema)
    return result


def field_schema(model: type[BaseModel], name: str) -> Schema:
    """The rule of one field, for `allowed` and `refusal`."""
    schema: Schema = schema_of(model)["properties"][name]
    return schema


def _follow(schema: Schema, loc: tuple[int | str, ...]) -> tuple[Path, Schema]:
    """Path and rule at a pydantic location, which also names the member of a union that was tried."""
    path: list[str | int] = []
    for part in loc:
        schema = narrow(schema)
        if "discriminator" in schema:
            schema = schema["discriminator"]["mapping"].get(part, {})
        elif schema.get("type") == "array" and isinstance(part, int):
            path.append(part)
            schema = schema["items"]
        elif schema.get("type") == "object":
            path.append(part)
            schema = schema.get("properties", {}).get(part, {})
        else:
            break
    return tuple(path), schema


def narrow(schema: Schema) -> Schema:
    """The rule without "or null"."""
    options = [option for option in schema.get("anyOf", []) if option.get("type") != "null"]
    return options[0] if len(options) == 1 else schema
