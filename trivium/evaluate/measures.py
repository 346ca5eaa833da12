"""What measures.json says: figures by name, of each model under its own."""

from collections.abc import Mapping
from typing import Any

Measures = dict[str, Any]


def models_in(measures: Mapping[str, Any]) -> list[str]:
    """The models that were measured, as the story goes: base, instruct, each earlier round, and aligned, the latest."""
    return [name for name, found in measures.items() if isinstance(found, dict) and "bits_per_byte" in found]
