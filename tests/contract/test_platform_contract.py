"""What holds for every platform: its declaration, its checks, its docs, and one message sent by its adapter."""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import Any

import msgspec
import pytest

from msgcore.cli.new_platform import NEXT
from msgcore.core.errors import InvalidInputError
from msgcore.platforms.base import Capability, PlatformAdapter, PlatformDeclaration
from msgcore.platforms.calling import CallingAdapter
from msgcore.platforms.registry import PlatformRegistry
from servers.deliveries import make_content
from servers.facts import folder_of

REGISTRY = PlatformRegistry()
DOCS = Path(__file__).parents[2] / "docs" / "platforms"
RAISED = re.compile(r"(?:Permanent|Temporary|Throttled|Authentication)Error\(\s*\"([a-z_0-9]+)\"")
SECRET_NAME = re.compile(r"password|secret|token|key", re.IGNORECASE)

pytestmark = pytest.mark.parametrize("name", REGISTRY.names)


def example_credentials(declaration: PlatformDeclaration) -> dict[str, Any]:
    return {field.name: field.example for field in declaration.credentials if field.example is not None}


@pytest.fixture
def declaration(name: str) -> PlatformDeclaration:
    return REGISTRY.declaration(name)


def test_the_declaration_is_sane(name: str, declaration: PlatformDeclaration) -> None:
    assert declaration.name == name
    assert re.fullmatch(r"[a-z][a-z0-9-]{1,31}", name), "names go into URLs and into a column of 32 characters"
    assert declaration.display_name
    capabilities = [info.capability for info in declaration.capabilities]
    assert Capability.SEND_MESSAGE in capabilities
    assert len(capabilities) == len(set(capabilities))
    assert REGISTRY.adapter_class(name).declaration is declaration
    assert issubclass(REGISTRY.adapter_class(name), PlatformAdapter)


def test_limits_and_retries_can_be_kept(name: str, declaration: PlatformDeclaration) -> None:
    everywhere = (declaration.limits, *(kind.limits for kind in declaration.limits.kinds))
    for budget in (budget for limits in everywhere for budget in (*limits.account, *limits.lane)):
        assert budget.count > 0
        assert budget.period > 0
        assert 1 <= budget.burst <= budget.count
    retry = declaration.retry
    assert retry.max_attempts >= 1
    assert retry.max_age >= 3600, f"{name}: an outage of an hour must drop nothing"
    assert 0 < retry.base <= retry.cap <= retry.max_age


def test_the_example_credentials_are_good(name: str, declaration: PlatformDeclaration) -> None:
    example = example_credentials(declaration)
    assert REGISTRY.check_credentials(name, example) == []
    assert REGISTRY.check_credentials(name, REGISTRY.apply_defaults(name, example)) == []
    required = {field.name for field in declaration.credentials if field.required}
    assert required <= set(example)


def test_each_credential_is_checked(name: str, declaration: PlatformDeclaration) -> None:
    example = example_credentials(declaration)
    for field in declaration.credentials:
        assert field.description
        wrong: list[Any] = [[], {"a": 1}, 1.5]
        wrong += [{"string": 1, "integer": "1", "boolean": "true"}[field.kind]]
        if field.kind == "string":
            wrong += ["x" * (field.max_length + 1), "a\r\nb", "a\x00b", " "]
        for value in wrong:
            errors = REGISTRY.check_credentials(name, example | {field.name: value})
            assert [error.pointer for error in errors] == [f"/credentials/{field.name}"], value
            assert field.name in errors[0].message
        for error in REGISTRY.check_credentials(name, example | {field.name: "\u202e"}) if field.pattern else ():
            assert "wrong form" not in error.message or error.message.endswith(f", such as {field.example}")
        if field.required:
            without = {key: value for key, value in example.items() if key != field.name}
            assert [error.pointer for error in REGISTRY.check_credentials(name, without)] == [
                f"/credentials/{field.name}"
            ]
    [error] = REGISTRY.check_credentials(name, example | {"surprise": 1})
    assert error.pointer == "/credentials/surprise"


def test_secrets_are_marked(name: str, declaration: PlatformDeclaration) -> None:
    for field in declaration.credentials:
        if field.kind == "string":
            assert field.secret == bool(SECRET_NAME.search(field.name)), f"{name}.{field.name}"


def test_options_refuse_what_they_do_not_know(name: str, declaration: PlatformDeclaration) -> None:
    if declaration.options is None:
        return
    with pytest.raises(msgspec.ValidationError, match="unknown field"):
        msgspec.convert({"surprise": 1}, declaration.options)
    content = make_content(subject="Hi", text="Hello", platformOptions={name: {"surprise": 1}})
    [error] = REGISTRY.check_content(name, content)
    assert error.pointer == f"/content/platformOptions/{name}/surprise"
    known = (REGISTRY.fact_sheet(name).options_schema or {"properties": {}})["properties"]
    assert all(option in error.message for option in ("surprise", *known))


def test_options_say_what_they_mean(name: str) -> None:
    schema = REGISTRY.fact_sheet(name).options_schema or {"properties": {}}
    forms = {option: given.get("anyOf", [given]) for option, given in schema["properties"].items()}
    silent = [
        option for option, given in forms.items() if not any({"description", "$ref"} & form.keys() for form in given)
    ]
    assert not silent, f"{name}: say what {silent} mean: Annotated[..., msgspec.Meta(description=...)]"


def test_each_error_that_is_raised_is_in_the_table(name: str) -> None:
    adapter = REGISTRY.adapter_class(name)
    if issubclass(adapter, CallingAdapter):  # raises by the table itself
        return
    folder = Path(inspect.getfile(adapter)).parent
    raised = {code for file in folder.glob("*.py") for code in RAISED.findall(file.read_text(encoding="utf-8"))}
    assert raised <= {rule.code for rule in adapter.errors.rules}, f"{name}: errors.py does not say what they mean"


def test_another_platforms_options_do_not_matter(name: str) -> None:
    content = make_content(subject="Hi", text="Hello", platformOptions={"another": {"surprise": 1}})
    assert REGISTRY.check_content(name, content) == []


def test_a_platforms_name_that_is_misspelt_in_options_is_not_ignored(name: str) -> None:
    for misspelt in {name[:-1], name.upper(), name.replace("-", "_"), f"{name[:2]}x{name[2:]}"} - set(REGISTRY.names):
        content = make_content(subject="Hi", text="Hello", platformOptions={misspelt: {}})
        [error] = REGISTRY.check_content("sandbox", content)
        assert error.pointer == f"/content/platformOptions/{misspelt}"
        assert error.message.endswith(f"did you mean {name}?")


def test_nothing_is_left_of_what_the_generator_made(name: str) -> None:
    source = Path(inspect.getfile(REGISTRY.adapter_class(name))).parent
    files = [*source.glob("*.py"), folder_of(name) / "facts.py", DOCS / f"{name}.md"]
    left = [
        f"{file.relative_to(DOCS.parents[1])}:{number}: {line.strip()}"
        for file in files
        if file.is_file()
        for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1)
        if NEXT in line
    ]
    assert not left, "\n".join(("what comes next:", *left))


def test_the_docs_tell_everything(name: str, declaration: PlatformDeclaration) -> None:
    page = (DOCS / f"{name}.md").read_text(encoding="utf-8")
    for field in declaration.credentials:
        assert f"`{field.name}`" in page, field.name
    for info in declaration.capabilities:
        assert f"`{info.capability.value}`" in page, info.capability
    if declaration.options is not None:
        for option in msgspec.structs.fields(declaration.options):
            assert f"`{option.encode_name}`" in page, option.encode_name
    assert "curl" in page


def test_an_unknown_name_is_a_clear_error(name: str) -> None:
    with pytest.raises(InvalidInputError) as raised:
        REGISTRY.adapter_class(f"{name}x")
    [error] = raised.value.errors
    assert error.pointer == "/platform"
    assert all(known in error.message for known in REGISTRY.names)
