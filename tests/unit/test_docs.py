"""The house documents: what they point at is there, and what they say of the commands is so."""

import re
from pathlib import Path

import pytest

from stream_app.cli.commands import COMMANDS
from stream_app.exits import CHECK_FAILED, EXIT_CODES, INTERRUPTED, RUNTIME_FAILURE, USAGE

ROOT = Path(__file__).parents[2]
PAGES = [*ROOT.glob("*.md"), *sorted((ROOT / "docs").rglob("*.md"))]
README = (ROOT / "README.md").read_text()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_relative_link_leads_somewhere(page: Path) -> None:
    targets = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text())

    assert [target for target in targets if not (page.parent / target).exists()] == []


@pytest.mark.parametrize("page", sorted((ROOT / "docs" / "why").glob("*.md")), ids=lambda page: page.stem)
def test_every_choice_names_problem_choice_and_cost(page: Path) -> None:
    text = page.read_text()

    assert "**The problem.**" in text
    assert "**The choice.**" in text
    assert "**What it costs.**" in text


def test_the_readme_lists_every_command() -> None:
    named = set(
        re.findall(r"`stream-app ([a-z]+)|, `([a-z]+)`", README.partition("## Commands")[2].partition("## Settings")[0])
    )
    words = {word for pair in named for word in pair if word}

    assert COMMANDS.keys() <= words


def test_the_readme_lists_every_exit_code() -> None:
    listed = {int(code) for code in re.findall(r"^\| (\d+) \|", README, flags=re.MULTILINE)}

    assert listed == {0, RUNTIME_FAILURE, USAGE, CHECK_FAILED, INTERRUPTED, *EXIT_CODES.values()}
