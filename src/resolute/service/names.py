"""Which fields a request may bring. One that its route does not take is refused.

Were it passed over, a filter with a typing error would vanish, and a purge would not happen.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from resolute.core.config import unknown_name
from resolute.service.problem import Problem

Place = Literal["URL", "form", "JSON"]

# Names are compared letter by letter with all that would do, and come back in the answer.
_LONGEST_NAME = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """A field that a route takes.

    Attributes:
        place: where in a request it stands.
        is_many: whether it may come several times.
        is_file: whether it is a file, not text.
    """

    place: Place
    is_many: bool = False
    is_file: bool = False


def check_fields(
    given: Iterable[tuple[str, Any]], taken: Mapping[str, Field], *, place: Place
) -> None:
    """Refuse what a route does not take.

    Args:
        given: names and values of a request, in order.
        taken: by name, all fields of the route.
        place: where these stand.

    Raises:
        Problem: if a name is unknown or stands in the wrong place, comes twice where one value
            is taken, or brings text for a file or a file for text.

    Examples:
        >>> check_fields([("camera", "c1")], {"camera": Field(place="form")}, place="form")
        >>> check_fields([("cam", "c1")], {"camera": Field(place="form")}, place="form")
        Traceback (most recent call last):
        resolute.service.problem.Problem: unknown field 'cam': did you mean 'camera'?
    """
    seen: set[str] = set()
    for name, value in given:
        field = taken.get(name)
        if field is None:
            raise Problem(422, "bad_value", _unknown(name[:_LONGEST_NAME], list(taken)))
        if field.place != place:
            why = f"expected in the {field.place}, got in the {place}"
        elif name in seen and not field.is_many:
            why = "expected one value, got several; give it once"
        elif place == "form":
            why = _wrong_kind(name, value, field)
        else:
            why = ""
        if why:
            raise Problem(422, "bad_value", f"{name}: {why}")
        seen.add(name)


def _unknown(name: str, known: list[str]) -> str:
    if not known:
        return f"unknown field {name!r}: this request takes no fields"
    return unknown_name("field", name, known)


def _wrong_kind(name: str, value: Any, field: Field) -> str:
    is_file = not isinstance(value, str)
    if field.is_file and not is_file:
        return f"expected a file, got text; with curl write -F {name}=@query.png"
    if is_file and not field.is_file:
        return f"expected text, got a file; with curl write -F {name}=TEXT, without @"
    return ""
