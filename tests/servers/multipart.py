"""Reads multipart/form-data bodies that arrived at a sink, by the standard library's MIME parser."""

from __future__ import annotations

from email.parser import BytesParser
from email.policy import HTTP

from servers.http_sink import Request


def read_form(request: Request) -> tuple[dict[str, str], dict[str, bytes]]:
    """The fields of a form, and its files, by name."""
    head = f"Content-Type: {request.headers['Content-Type']}\r\n\r\n".encode()
    message = BytesParser(policy=HTTP).parsebytes(head + request.body)
    fields: dict[str, str] = {}
    files: dict[str, bytes] = {}
    for part in message.iter_parts():
        name = str(part.get_param("name", header="content-disposition"))
        data = part.get_payload(decode=True)
        assert isinstance(data, bytes)
        if part.get_filename() is None:
            fields[name] = data.decode()
        else:
            files[name] = data
    return fields, files
