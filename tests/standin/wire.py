"""What a request to AWS asks for, read off the wire, and errors in the form that each protocol has for them."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from io import BytesIO
from typing import Any
from urllib.parse import parse_qsl

import botocore.session

Environ = dict[str, Any]
Answer = Callable[[str, list[tuple[str, str]]], Any]

SERVICES = {"monitoring": "cloudwatch", "servicequotas": "service-quotas"}
"""Where the name in a signature is not that of the API."""

PLATFORM = "standin-platform"
"""In the user agent of what SageMaker does by itself: fetch input, keep checkpoints, write logs."""

JOB_KEY = "ASIAJOB"
"""Access keys of jobs begin so."""

OLD_CODES = {
    "ThrottlingException": {"query": "Throttling", "s3": "SlowDown"},
    "ExpiredTokenException": {"query": "ExpiredToken", "s3": "ExpiredToken"},
    "AccessDeniedException": {"query": "AccessDenied", "s3": "AccessDenied"},
}
"""What the older protocols call an error."""


@dataclass(frozen=True)
class Call:
    """One request. by: "client", "job" (with a job's own credentials) or "platform"."""

    service: str
    operation: str
    region: str = "us-east-1"
    request: Mapping[str, Any] = field(default_factory=dict)
    by: str = "client"
    protocol: str = "json"

    def __str__(self) -> str:
        return f"{self.service}:{self.operation}"


class AwsFault(Exception):
    """An answer that is an error: its code, its sentence, and the HTTP status."""

    def __init__(self, code: str, message: str, status: int = 400) -> None:
        super().__init__(f"{code}: {message}")
        self.code, self.message, self.status = code, message, status


def identify(environ: Environ) -> Call:
    """Read what is asked for. The body can still be read afterwards."""
    found = re.search(r"Credential=([^/]+)/\d+/([^/]+)/([^/]+)/", environ.get("HTTP_AUTHORIZATION", ""))
    key, region, signed = found.groups() if found else ("", "us-east-1", "s3")
    agent = environ.get("HTTP_USER_AGENT", "")
    by = "platform" if PLATFORM in agent else "job" if key.startswith(JOB_KEY) else "client"
    service = SERVICES.get(signed, signed)
    target = environ.get("HTTP_X_AMZ_TARGET", "")
    path = re.fullmatch(r"/service/[^/]+/operation/(\w+)", environ.get("PATH_INFO", ""))
    if target:
        # Only SageMaker's requests are kept whole; the others' content is nothing to this stand-in.
        body = _body(environ)
        request = {} if "HTTP_CONTENT_ENCODING" in environ else json.loads(body or b"{}")  # large ones come packed
        return Call(service, target.rpartition(".")[2], region, request, by)
    if path:
        return Call(service, path[1], region, {}, by, "cbor")
    if environ.get("CONTENT_TYPE", "").startswith("application/x-www-form-urlencoded"):
        words = dict(parse_qsl(_body(environ).decode("utf-8"), keep_blank_values=True))
        return Call(service, words.get("Action", "?"), region, words, by, "query")
    if service == "s3":
        asked = {"path": environ.get("PATH_INFO", ""), "query": environ.get("QUERY_STRING", "")}
        return Call("s3", _s3_operation(environ), region, asked, by, "s3")
    return Call(service, f"{environ['REQUEST_METHOD']} {environ.get('PATH_INFO', '')}", region, {}, by)


def _body(environ: Environ) -> bytes:
    content = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
    environ["wsgi.input"] = BytesIO(content)
    return bytes(content)


@functools.cache
def _s3_routes() -> list[tuple[str, int, dict[str, str], set[str], set[str], str]]:
    """(method, depth of path, literal query, query members, header members, operation), from botocore's model."""
    model = botocore.session.Session().get_service_model("s3")
    routes = []
    for name in model.operation_names:
        operation = model.operation_model(name)
        path, _, query = operation.http["requestUri"].partition("?")
        depth = path.count("{")
        literal = dict(parse_qsl(query, keep_blank_values=True))
        members = operation.input_shape.members if operation.input_shape else {}
        required = operation.input_shape.required_members if operation.input_shape else []

        def needed(where: str, members: Mapping[str, Any] = members, required: Iterable[str] = required) -> set[str]:
            shapes = [members[one].serialization for one in required]
            return {shape["name"].lower() for shape in shapes if shape.get("location") == where}

        routes.append((operation.http["method"], depth, literal, needed("querystring"), needed("header"), name))
    return routes


def _s3_operation(environ: Environ) -> str:
    parts = [part for part in environ.get("PATH_INFO", "/").lstrip("/").split("/", 1) if part]
    query = dict(parse_qsl(environ.get("QUERY_STRING", ""), keep_blank_values=True))
    keys = {key.lower() for key in query}
    best, fits = "?", -1
    for method, depth, literal, in_query, in_header, name in _s3_routes():
        if method != environ["REQUEST_METHOD"] or depth != len(parts):
            continue
        if any(query.get(key) != value for key, value in literal.items() if key != "x-id") or not in_query <= keys:
            continue
        if any(f"HTTP_{header.upper().replace('-', '_')}" not in environ for header in in_header):
            continue
        score = len([key for key in literal if key != "x-id"]) + len(in_query) + len(in_header)
        if score > fits or (score == fits and name in ("GetObject", "PutObject", "ListBuckets")):
            best, fits = name, score
    return best


def answer_json(content: Mapping[str, Any], start_response: Answer) -> list[bytes]:
    """A result in AWS's JSON 1.1."""
    body = json.dumps(content).encode()
    start_response("200 OK", [("Content-Type", "application/x-amz-json-1.1"), ("Content-Length", str(len(body)))])
    return [body]


def answer_fault(fault: AwsFault, protocol: str, start_response: Answer) -> list[bytes]:
    """The error as this protocol writes it."""
    code = OLD_CODES.get(fault.code, {}).get(protocol, fault.code)
    status = 503 if code == "SlowDown" else 403 if code == "AccessDenied" else fault.status
    headers = []
    if protocol == "cbor":
        kind, body = "application/cbor", _cbor({"__type": code, "message": fault.message})
        headers.append(("smithy-protocol", "rpc-v2-cbor"))
    elif protocol == "json":
        kind, body = "application/x-amz-json-1.1", json.dumps({"__type": code, "message": fault.message}).encode()
    else:
        inner = f"<Code>{code}</Code><Message>{_escaped(fault.message)}</Message>"
        error = f"<Error>{inner}</Error>"
        kind = "text/xml"
        body = (
            error if protocol == "s3" else f"<ErrorResponse>{error}<RequestId>0</RequestId></ErrorResponse>"
        ).encode()
    start_response(
        f"{status} {HTTPStatus(status).phrase}",
        [("Content-Type", kind), ("Content-Length", str(len(body))), ("x-amzn-RequestId", "stand-in"), *headers],
    )
    return [body]


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _cbor(values: Mapping[str, str]) -> bytes:
    """A small map of texts, each below 64 kB (RFC 8949)."""
    out = bytes([0xA0 + len(values)])
    for text in (text for pair in values.items() for text in pair):
        content = text.encode()
        out += b"\x79" + len(content).to_bytes(2, "big") + content
    return out
