"""Answers in the exchange's form. Owns their headers and the JSON of an error."""

from collections.abc import Mapping

import msgspec
from starlette.responses import Response

JSON_TYPE = "application/json;charset=UTF-8"


def json_answer(body: bytes, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """A JSON text as it is."""
    return Response(body, status, {"content-type": JSON_TYPE, "x-content-type-options": "nosniff", **(headers or {})})


def error_answer(status: int, code: int, message: str, headers: Mapping[str, str] | None = None) -> Response:
    """The exchange's ``{"code", "msg"}``."""
    return json_answer(msgspec.json.encode({"code": code, "msg": message}), status, headers)
