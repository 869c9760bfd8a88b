"""What is told of platforms: the pages of the documentation, and the commands that list and show them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from msgcore.cli import platform_pages
from msgcore.cli.platform_facts import list_supported, show_platform
from msgcore.cli.platform_pages import BEGIN, END, capability_table, checkout, facts, pages, write_pages
from msgcore.core.errors import StartupError
from msgcore.platforms.registry import PlatformRegistry
from servers.command import Msgcore

ROOT = Path(__file__).parents[2]
REGISTRY = PlatformRegistry()
SHEETS = REGISTRY.fact_sheets()


def test_the_pages_are_what_the_declarations_say() -> None:
    old = [str(path.relative_to(ROOT)) for path, text in pages(ROOT, SHEETS).items() if path.read_text() != text]
    assert not old, f"run `make docs`: {', '.join(old)}"


def test_a_page_gets_its_part_and_keeps_the_rest(tmp_path: Path) -> None:
    [sheet] = [sheet for sheet in SHEETS if sheet.declaration.name == "telegram"]
    folder = tmp_path / "docs" / "platforms"
    folder.mkdir(parents=True)
    (tmp_path / "README.md").write_text(f"# Top\n\n{BEGIN}\nold\n{END}\n\n## More\n")
    for name in ("README", "telegram"):
        (folder / f"{name}.md").write_text("# Telegram\n\nWritten by hand.\n")
    assert len(write_pages(tmp_path, [sheet])) == 3
    assert write_pages(tmp_path, [sheet]) == []
    page = (folder / "telegram.md").read_text()
    assert page.startswith(f"# Telegram\n\nWritten by hand.\n\n{BEGIN}\n\n{facts(sheet)}")
    whole = (tmp_path / "README.md").read_text()
    assert (whole.startswith("# Top\n"), whole.endswith(f"{END}\n\n## More\n"), "old" in whole) == (True, True, False)
    (folder / "telegram.md").unlink()
    with pytest.raises(StartupError, match=r"telegram\.md"):
        write_pages(tmp_path, [sheet])


def test_an_installed_package_has_no_pages(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert checkout() == ROOT
    monkeypatch.setattr(platform_pages.msgcore, "__file__", str(tmp_path / "site-packages" / "msgcore" / "__init__.py"))
    with pytest.raises(StartupError, match="source checkout"):
        checkout()


def test_platforms_are_listed_and_shown(msgcore: Msgcore, capsys: pytest.CaptureFixture[str]) -> None:
    list_supported(as_json=True)
    lines = capsys.readouterr().out.splitlines()
    assert [json.loads(line)["name"] for line in lines] == list(REGISTRY.names)
    show_platform("slack", as_json=True)
    assert capsys.readouterr().out.splitlines() == [line for line in lines if '"name":"slack"' in line]
    list_supported(as_json=False)
    show_platform("telegram", as_json=False)
    shown = capsys.readouterr().out
    assert ("websocket" in shown or "webhook" in shown, "`recipient_blocked_bot`" in shown) == (True, True)
    unknown = msgcore.run("platforms", "show", "fax")
    assert (unknown.returncode, "there is no platform 'fax'" in unknown.stderr) == (1, True)
    assert "`receive-typing`" in capability_table(SHEETS)
