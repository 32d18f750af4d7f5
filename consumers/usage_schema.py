"""The JSON Schema of the usage data, made from the rules that the reading uses; `schemas/usage.v1.json` is its copy.

A schema cannot say everything: the context's size in bytes, keys that come twice, NFC and `corrects` naming the record
itself are judged by the reading alone. What the schema refuses, the reading refuses.
"""

from __future__ import annotations

import json
from pathlib import Path

from consumers.wire_rules import (
    DIMENSIONS_MAX,
    ID_FIELDS,
    ID_PATTERN,
    METERS_MAX,
    NAME_PATTERN,
    QUANTITY_PATTERN,
    RECORD_ID_PATTERN,
    STATUSES,
    USAGE_TYPE,
)

SCHEMA_FILE = Path(__file__).parent / "schemas" / "usage.v1.json"


def usage_schema() -> dict[str, object]:
    """The schema of the data of `com.coffer.usage.recorded.v1` (JSON Schema 2020-12)."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": "urn:coffer:schema:usage:v1",
        "title": USAGE_TYPE,
        "description": "One metered fact; id, source, subject (the team) and time are CloudEvents attributes.",
        "type": "object",
        "additionalProperties": False,
        "required": ["action", "status"],
        "properties": _properties(),
        "if": {"required": ["corrects"]},
        "then": {"properties": {"status": {"enum": list(STATUSES[1:])}}},
    }


def _properties() -> dict[str, object]:
    return {
        "action": _text(NAME_PATTERN, "What was done, such as image.generate."),
        "status": {"enum": list(STATUSES)},
        "meters": {
            "description": "Meter to quantity: a plain decimal of at most nine places, at most 2^62.",
            "type": "object",
            "maxProperties": METERS_MAX,
            "propertyNames": {"pattern": f"^{NAME_PATTERN}$"},
            "additionalProperties": {"type": "string", "pattern": f"^{QUANTITY_PATTERN}$"},
        },
        "dimensions": {
            "description": "What prices may depend on, such as the model.",
            "type": "object",
            "maxProperties": DIMENSIONS_MAX,
            "propertyNames": {"pattern": f"^{NAME_PATTERN}$"},
            "additionalProperties": {"type": "string", "minLength": 1, "maxLength": 128},
        },
        **{field: _text(ID_PATTERN, f"The {field}'s id; opaque.") for field in ID_FIELDS},
        "corrects": _text(
            RECORD_ID_PATTERN, "The id, within the same source, of the record whose charge is taken back."
        ),
        "context": {"description": "Free parameters and links; at most 8 KiB.", "type": "object"},
    }


def _text(pattern: str, description: str) -> dict[str, object]:
    return {"description": description, "type": "string", "pattern": f"^{pattern}$"}


def schema_text() -> str:
    """The schema as it stands in its file."""
    return json.dumps(usage_schema(), indent=2) + "\n"
