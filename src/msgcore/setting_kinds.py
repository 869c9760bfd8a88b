"""The kinds of values that settings take: what is checked, and in words what is allowed."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr

GENERATE_SECRET = "openssl rand -hex 32"  # noqa: S105 - a command, not a secret
SIGNATURES = frozenset({"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"})
"""Algorithms by which who can check a signature cannot make one."""
PROGRAMS = (
    "application/vnd.microsoft.portable-executable",
    "application/x-msdownload",
    "application/x-dosexec",
    "application/x-executable",
    "application/x-mach-binary",
)
"""Media types of what computers run: nobody should get it by a click."""

_DATABASE_SCHEME = re.compile(r"(postgres|postgresql|sqlite)(\+\w+)?:/")
_MEDIA_TYPE = re.compile(r"\*/\*|[A-Za-z0-9.+-]+/(\*|[A-Za-z0-9.+-]+)")
_REDIS_SCHEME = re.compile(r"(redis|rediss|valkey|valkeys)(\+(sentinel|cluster))?://")


@dataclass(frozen=True, slots=True)
class Allowed:
    """In words, which values a setting takes; completes the sentence "use ..."."""

    text: str


def setting(default: Any, meaning: str, *variables: str, **rules: Any) -> Any:
    """A setting read from the first of `variables` that is set; the later ones are the original's names."""
    return Field(default=default, description=meaning, json_schema_extra={"variables": list(variables)}, **rules)


def _split(value: Any) -> Any:
    """A comma-separated text as a tuple without blanks; anything else as it is."""
    if isinstance(value, str):
        return tuple(part for part in map(str.strip, value.split(",")) if part)
    return value


def _http_url(text: str) -> str:
    parts = urlsplit(text)
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.username is not None:
        raise ValueError("not an http URL")
    if parts.query or parts.fragment or parts.port == 0:  # reading .port raises for one above 65535
        raise ValueError("more than scheme, host, port and path")
    return text.rstrip("/")


def _issuer(text: str) -> str:
    """The URL of an issuer; the original names its host alone."""
    url = _http_url(text if "://" in text else f"https://{text}")
    parts = urlsplit(url)
    if parts.scheme != "https" and parts.hostname not in {"localhost", "127.0.0.1", "::1"}:
        raise ValueError("whoever sits in between could give other keys")
    return url


def _algorithm(text: str) -> str:
    if text not in SIGNATURES:
        raise ValueError("not with a public key")
    return text


def _origin(text: str) -> str:
    if text != "*" and urlsplit(_http_url(text)).path:
        raise ValueError("an origin has no path")
    return text.rstrip("/")


def _network(text: str) -> str:
    return str(ip_network(text, strict=False))


def _media_type(text: str) -> str:
    if not _MEDIA_TYPE.fullmatch(text):
        raise ValueError("not a media type")
    return text.lower()


def _blob_url(text: str) -> str:
    parts = urlsplit(text)
    if parts.query or parts.fragment or parts.username is not None:
        raise ValueError("more than scheme, bucket and path")
    if not ((parts.scheme == "s3" and parts.hostname) or (parts.scheme == "file" and text.startswith("file:///"))):
        raise ValueError("neither file:///path nor s3://bucket")
    return text.rstrip("/")


def _matching(pattern: str | re.Pattern[str]) -> AfterValidator:
    compiled = re.compile(pattern)

    def check(secret: SecretStr | None) -> SecretStr | None:
        if secret is not None and not compiled.match(secret.get_secret_value()):
            raise ValueError("does not match")
        return secret

    return AfterValidator(check)


def _key_command(secret: SecretStr | None) -> SecretStr | None:
    if secret is not None and not "".join(shlex.split(secret.get_secret_value())[:1]):
        raise ValueError("no command")
    return secret


def _each(check: Callable[[str], str]) -> AfterValidator:
    def check_all(items: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(map(check, items))

    return AfterValidator(check_all)


def _absolute(path: Path) -> Path:
    return path.expanduser().absolute()


HttpUrl = Annotated[str, AfterValidator(_http_url), Allowed("a URL like https://gateway.example.com")]
Origins = Annotated[
    tuple[str, ...],
    BeforeValidator(_split),
    _each(_origin),
    Allowed("* or origins like https://app.example.com, comma-separated"),
]
Networks = Annotated[
    tuple[str, ...],
    BeforeValidator(_split),
    _each(_network),
    Allowed("IP networks like 10.0.0.0/8, comma-separated"),
]
DatabaseUrl = Annotated[
    SecretStr | None,
    _matching(_DATABASE_SCHEME),
    Allowed("postgresql://user:password@host:5432/name or sqlite:////path/to/file"),
]
RedisUrl = Annotated[
    SecretStr | None,
    _matching(_REDIS_SCHEME),
    Allowed("redis://, rediss://, redis+sentinel:// or redis+cluster:// followed by host:port"),
]
BlobUrl = Annotated[
    Annotated[str, AfterValidator(_blob_url)] | None,
    Allowed("file:///path/of/a/folder or s3://bucket/prefix"),
]
OptionalHttpUrl = Annotated[
    Annotated[str, AfterValidator(_http_url)] | None, Allowed("a URL like https://storage.example.com")
]
OidcIssuer = Annotated[
    Annotated[str, AfterValidator(_issuer)] | None, Allowed("a URL like https://login.example.com, or the host alone")
]
OidcAudience = Annotated[
    Annotated[str, Field(pattern=r"^[!-~]{1,512}$")] | None, Allowed("printable ASCII characters without blanks")
]
OidcAlgorithms = Annotated[
    tuple[str, ...],
    BeforeValidator(_split),
    Field(min_length=1),
    _each(_algorithm),
    Allowed("RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384, ES512 or EdDSA, comma-separated"),
]
MediaTypes = Annotated[
    tuple[str, ...],
    BeforeValidator(_split),
    _each(_media_type),
    Allowed("media types like image/png, image/* or */*, comma-separated"),
]
S3Key = Annotated[SecretStr | None, _matching(r"[!-~]+\Z"), Allowed("printable ASCII characters without blanks")]
S3Region = Annotated[str, Field(pattern=r"^[A-Za-z0-9-]{1,64}$"), Allowed("a name like eu-central-1")]
RedisPrefix = Annotated[
    str, Field(pattern=r"^[A-Za-z0-9._-]{1,32}$"), Allowed("1 to 32 letters, digits, dots, hyphens or underscores")
]
EncryptionKey = Annotated[
    SecretStr | None,
    _matching(r"[0-9a-fA-F]{64}\Z"),
    Allowed(f"64 hex digits; generate them with: {GENERATE_SECRET}"),
]
KeyCommand = Annotated[
    SecretStr | None,
    AfterValidator(_key_command),
    Allowed("a command and its arguments, quoted as in a shell, such as: op read op://vault/msgcore/key"),
]
DecryptionKeys = Annotated[
    SecretStr | None,
    _matching(r"[0-9a-fA-F]{64}(\s*,\s*[0-9a-fA-F]{64})*\Z"),
    Allowed("keys of 64 hex digits, comma-separated"),
]
JwtSecret = Annotated[
    SecretStr | None,
    _matching(r"(?s).{32,}\Z"),
    Allowed(f"at least 32 characters; generate them with: {GENERATE_SECRET}"),
]
MetricsToken = Annotated[
    SecretStr | None,
    _matching(r"[!-~]{16,}\Z"),
    Allowed(f"at least 16 printable ASCII characters without blanks; generate them with: {GENERATE_SECRET}"),
]
OptionalPort = Annotated[
    Annotated[int, Field(ge=1, le=65535)] | None, Allowed("a whole number from 1 to 65535, another than MSGCORE_PORT")
]
HostName = Annotated[str, Field(pattern=r"^[A-Za-z0-9.:_-]+$"), Allowed("an address to listen on, like 127.0.0.1")]
OptionalFile = Annotated[Annotated[Path, AfterValidator(_absolute)] | None, Allowed("a path of a file")]
DataDir = Annotated[Path, AfterValidator(_absolute), Allowed("a path of a folder")]
