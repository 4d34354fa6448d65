"""A task's parameters in words, from their pydantic models: type, default and range of each."""

from typing import Any

from jobs.catalogue import Task
from scheduler.wording import Schema, allowed, narrow, schema_of

Description = dict[str, Any]


def describe(task: Task) -> Description:
    """A task as an object: name, summary, source, whether it trains, metrics, objective, epochs, and its parameters.

    Each parameter has name, type, default, allowed and description. Those of a scheduler's kinds are named like
    "scheduler.gamma (step)".
    """
    return {
        "name": task.name,
        "summary": task.summary,
        "source": task.source,
        "trains": task.trains,
        "metrics": list(task.metrics),
        "objective": {"metric": task.objective.metric, "mode": task.objective.mode},
        "epochs": task.epochs,
        "parameters": _parameters(schema_of(task.params)),
    }


def _parameters(schema: Schema, prefix: str = "", kind: str = "") -> list[Description]:
    found = []
    for name, field in schema["properties"].items():
        if "const" in field:  # the name that tells the kinds apart
            continue
        found.append(
            {
                "name": f"{prefix}{name}{kind}",
                "type": _type(field),
                "default": field.get("default"),
                "allowed": allowed(field),
                "description": field.get("description", ""),
            }
        )
        kinds = narrow(field).get("discriminator", {}).get("mapping", {})
        for inner_kind, inner in kinds.items():
            found += _parameters(inner, f"{prefix}{name}.", f" ({inner_kind})")
    return found


def _type(field: Schema) -> str:
    option = narrow(field)
    name = "text" if option.get("type") == "string" else option.get("type", "object")
    if name == "array":
        name = f"list of {_type(option['items'])}s"
    return f"{name} or null" if field.get("anyOf") else str(name)
