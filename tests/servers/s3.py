"""A server that speaks as much of S3 as files need, keeps them in memory, and believes only right signatures.

Sources: Amazon S3 API Reference (PutObject, GetObject, DeleteObjects, CreateMultipartUpload and the like), and
"Authenticating Requests: Using the Authorization Header (AWS Signature Version 4)".
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import count
from urllib.parse import quote, unquote

from aiohttp import web

KEY, SECRET, REGION, BUCKET = "AKIDEXAMPLE", "wJalr/XUtnFEMI+K7MDENG", "eu-central-1", "files"
_SIGNED = re.compile(r"AWS4-HMAC-SHA256 Credential=(\S+), ?SignedHeaders=(\S+), ?Signature=(\w+)")


@dataclass
class S3Server:
    """What is in the bucket, uploads that are not complete, and how to answer every request instead."""

    port: int = 0
    objects: dict[str, bytes] = field(default_factory=dict)
    uploads: dict[str, dict[int, bytes]] = field(default_factory=dict)
    status: int | None = None
    hold_after_puts: bool = False
    """Whether what was stored is never answered."""
    requests: list[str] = field(default_factory=list)
    _numbers: count[int] = field(default_factory=count)

    def settings(self) -> dict[str, str]:
        """The settings of a gateway that keeps its files here."""
        return {
            "MSGCORE_BLOB_URL": f"s3://{BUCKET}/in/gateway",
            "MSGCORE_S3_ENDPOINT": f"http://127.0.0.1:{self.port}",
            "MSGCORE_S3_REGION": REGION,
            "MSGCORE_S3_ACCESS_KEY_ID": KEY,
            "MSGCORE_S3_SECRET_ACCESS_KEY": SECRET,
        }

    async def handle(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        self.requests.append(f"{request.method} {request.path_qs}")
        if self.status is not None:
            return web.Response(status=self.status, text=f"<Error><Message>{SECRET}</Message></Error>")
        if not _is_signed(request, body):
            return _xml("<Error><Code>SignatureDoesNotMatch</Code></Error>", status=403)
        bucket, _, name = request.path.removeprefix("/").partition("/")
        if bucket != BUCKET:
            return _xml("<Error><Code>NoSuchBucket</Code></Error>", status=404)
        if request.method == "POST" and "delete" in request.query:
            keys = [key.decode() for key in re.findall(rb"<Key>(.*?)</Key>", body)]
            for key in keys:
                self.objects.pop(key, None)
            deleted = "".join(f"<Deleted><Key>{key}</Key></Deleted>" for key in keys)
            return _xml(f"<DeleteResult>{deleted}</DeleteResult>")
        if "uploads" in request.query or "uploadId" in request.query:
            return self._upload(request, name, body)
        answer = self._object(request, name, body)
        if request.method == "PUT" and self.hold_after_puts:
            await asyncio.Event().wait()
        return answer

    def _upload(self, request: web.Request, name: str, body: bytes) -> web.Response:
        if "uploads" in request.query:
            upload = f"upload-{next(self._numbers)}"
            self.uploads[upload] = {}
            return _xml(f"<InitiateMultipartUploadResult><UploadId>{upload}</UploadId></InitiateMultipartUploadResult>")
        upload = request.query["uploadId"]
        if request.method == "PUT":
            self.uploads[upload][int(request.query["partNumber"])] = body
            return web.Response(headers={"ETag": f'"{hashlib.md5(body).hexdigest()}"'})
        parts = self.uploads.pop(upload)
        if request.method == "DELETE":
            return web.Response(status=204)
        self.objects[name] = b"".join(parts[number] for number in sorted(parts))
        return _xml('<CompleteMultipartUploadResult><ETag>"x"</ETag></CompleteMultipartUploadResult>')

    def _object(self, request: web.Request, name: str, body: bytes) -> web.Response:
        if request.method == "PUT":
            self.objects[name] = body
            return web.Response(headers={"ETag": f'"{hashlib.md5(body).hexdigest()}"'})
        found = self.objects.get(name)
        if found is None:
            return _xml("<Error><Code>NoSuchKey</Code></Error>", status=404)
        headers = {"ETag": '"x"', "Last-Modified": "Tue, 01 Jan 2030 00:00:00 GMT"}
        match = re.fullmatch(r"bytes=(\d+)-(\d*)", request.headers.get("Range", ""))
        if match is None:
            return web.Response(body=found, headers=headers)
        start, end = int(match[1]), int(match[2] or len(found) - 1)
        part = found[start : end + 1]
        headers["Content-Range"] = f"bytes {start}-{start + len(part) - 1}/{len(found)}"
        return web.Response(status=206, body=part, headers=headers)


@asynccontextmanager
async def s3_server() -> AsyncIterator[S3Server]:
    """A server with an empty bucket on a free port of 127.0.0.1, in the running event loop."""
    server = S3Server()
    app = web.Application(client_max_size=64 * 1024 * 1024)
    app.router.add_route("*", "/{path:.*}", server.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    server.port = runner.addresses[0][1]
    try:
        yield server
    finally:
        await runner.cleanup()


def _xml(text: str, *, status: int = 200) -> web.Response:
    return web.Response(status=status, text=f'<?xml version="1.0"?>{text}', content_type="application/xml")


def _is_signed(request: web.Request, body: bytes) -> bool:
    match = _SIGNED.fullmatch(request.headers.get("Authorization", ""))
    if match is None:
        return False
    key, date, *scope = match[1].split("/")
    hashed = request.headers["x-amz-content-sha256"]
    if (key, scope) != (KEY, [REGION, "s3", "aws4_request"]) or hashed not in (
        hashlib.sha256(body).hexdigest(),
        "UNSIGNED-PAYLOAD",
    ):
        return False
    pairs = [pair.partition("=") for pair in request.rel_url.raw_query_string.split("&") if pair]
    query = "&".join(sorted(f"{name}={quote(unquote(value), safe='-_.~')}" for name, _, value in pairs))
    names = match[2].split(";")
    headers = "".join(f"{name}:{request.headers[name].strip()}\n" for name in names)
    canonical = "\n".join((request.method, request.rel_url.raw_path, query, headers, match[2], hashed))
    text = "\n".join(
        (
            "AWS4-HMAC-SHA256",
            request.headers["x-amz-date"],
            "/".join((date, *scope)),
            hashlib.sha256(canonical.encode()).hexdigest(),
        )
    )
    secret = f"AWS4{SECRET}".encode()
    for part in (date, *scope):
        secret = hmac.digest(secret, part.encode(), "sha256")
    return hmac.compare_digest(hmac.digest(secret, text.encode(), "sha256").hex(), match[3])
