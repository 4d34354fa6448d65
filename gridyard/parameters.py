"""A task's parameters in words, from their pydantic models: type, default and range of each."""

import json
from typing import Any

from jobs.catalogue import Task

Description = dict[str, Any]

LIMITS = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
LENGTHS = {"minItems": "≥", "maxItems": "≤"}


def describe(task: Task) -> Description:
    """A task as an object: name, summary, metrics, objective, epochs, and its parameters.

    Each parameter has name, type, default, allowed and description. Those of a scheduler's kinds are named like
    "scheduler.gamma (step)".
    """
    schema = task.params.model_json_schema()
    return {
        "name": task.name,
        "summary": task.summary,
        "metrics": list(task.metrics),
        "objective": {"metric": task.objective.metric, "mode": task.objective.mode},
        "epochs": task.epochs,
        "parameters": _parameters(schema, schema.get("$defs", {})),
    }


def _parameters(schema: Description, definitions: Description, prefix: str = "", kind: str = "") -> list[Description]:
    found = []
    for name, field in schema["properties"].items():
        if "const" in field:  # the name that tells the kinds apart
            continue
        found.append(
            {
                "name": f"{prefix}{name}{kind}",
                "type": _type(field),
                "default": field.get("default"),
                "allowed": _allowed(field),
                "description": field.get("description", ""),
            }
        )
        for inner_kind, definition in _kinds(field, definitions).items():
            found += _parameters(definition, definitions, f"{prefix}{name}.", f" ({inner_kind})")
    return found


def _options(field: Description) -> list[Description]:
    """The types of `a | b | null`, without null."""
    options = field.get("anyOf") or [field]
    return [option for option in options if option.get("type") != "null"]


def _type(field: Description) -> str:
    option = _options(field)[0]
    name = "text" if "enum" in option or option.get("type") == "string" else option.get("type", "object")
    if name == "array":
        name = f"list of {_type(option['items'])}s"
    return f"{name} or null" if field.get("anyOf") else str(name)


def _allowed(field: Description) -> str:
    option = _options(field)[0]
    if "enum" in option:
        return ", ".join(option["enum"])
    if "discriminator" in option:
        return "name: " + ", ".join(option["discriminator"]["mapping"])
    parts = [f"{sign} {_number(option[key])}" for key, sign in LIMITS.items() if key in option]
    parts += [f"{sign} {option[key]} values" for key, sign in LENGTHS.items() if key in option]
    if "items" in option:
        parts.append(f"each {_allowed(option['items'])}")
    return ", ".join(parts)


def _number(value: float) -> str:
    return json.dumps(int(value) if float(value).is_integer() else value)


def _kinds(field: Description, definitions: Description) -> dict[str, Description]:
    """The kinds of an object such as a scheduler, by their names."""
    mapping = _options(field)[0].get("discriminator", {}).get("mapping", {})
    return {kind: definitions[reference.rpartition("/")[2]] for kind, reference in mapping.items()}
