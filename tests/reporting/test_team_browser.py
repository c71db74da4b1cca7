"""The report on a team in a real browser without a network: on a phone, by keyboard, printed, without scripts."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from axe_playwright_python.sync_playwright import Axe

from agentroute.reporting import diagnose_team, team_html
from agentroute.teams import Mode, Role, RoleAllocator, Team

MADE = datetime(2026, 11, 23, 3, 0, tzinfo=UTC)
WIDE, PHONE = {"width": 1280, "height": 900}, {"width": 360, "height": 740}
HOSTILE = ("<script>window.owned = 1</script>", "very-" * 30 + "long")
ROLES = ("</script><img src=x onerror='window.owned = 2'>", "نموذج-كبير \u202etxet", "{{ 7 * 7 }} ${7 * 7} \"q\" 'x'")


@pytest.fixture(scope="module")
def pages(team_runs, team_of_three, tmp_path_factory):
    """Files to open: a usual team, one of which little can be told, and one with hostile names."""
    folder = tmp_path_factory.mktemp("teams")
    runs = team_runs()
    allocator = RoleAllocator(*team_of_three)
    stuck = [replace(run, models={**run.models, "planner": "large"}, propensity=None) for run in runs[:100]]
    hostile = RoleAllocator(
        Team(roles=tuple(Role(name=name, optional=name == ROLES[2]) for name in ROLES), modes=(Mode(name="chain"),)), HOSTILE
    )
    made = {
        "usual": diagnose_team(allocator, runs, budgets=4, resamples=100),
        "stuck": diagnose_team(allocator, stuck, budgets=2),
        "hostile": diagnose_team(hostile, team_runs(roles=ROLES, models=HOSTILE), budgets=2, resamples=50),
        "bare": diagnose_team(allocator),
    }
    for name, found in made.items():
        source = HOSTILE[0] if name == "hostile" else "runs.jsonl"
        (folder / f"{name}.html").write_text(team_html(found, source=source, made=MADE), encoding="utf-8")
    return folder


@pytest.fixture
def visit(chromium, pages):
    """Opens a report; when the test ends, nothing may have been said, failed or asked for."""
    said, contexts = [], []

    def open_(name, size=WIDE, scheme="light", *, script=True):
        context = chromium.new_context(viewport=size, color_scheme=scheme, offline=True, java_script_enabled=script)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: said.append(f"console {message.type}: {message.text}"))
        page.on("pageerror", lambda error: said.append(f"error: {error}"))
        page.on("request", lambda request: request.url.startswith(("file:", "data:")) or said.append(f"request: {request.url}"))
        page.goto((pages / f"{name}.html").as_uri())
        if script:
            page.wait_for_selector("html[data-ready]", timeout=20_000)
        return page

    yield open_
    for context in contexts:
        context.close()
    assert said == []


@pytest.mark.parametrize(
    ("name", "scheme", "size"),
    [("usual", "light", WIDE), ("usual", "dark", PHONE), ("stuck", "dark", WIDE), ("hostile", "light", PHONE)],
)
def test_axe_finds_nothing(visit, name, scheme, size):
    page = visit(name, size, scheme)
    found = Axe().run(page, options={"resultTypes": ["violations"]})
    assert found.generate_report() == "Found 0 accessibility violations:\n"


@pytest.mark.parametrize("size", [WIDE, PHONE], ids=["wide", "phone"])
@pytest.mark.parametrize("name", ["usual", "stuck", "hostile", "bare"])
def test_nothing_but_what_scrolls_is_wider_than_the_screen(visit, name, size):
    page = visit(name, size)
    assert page.evaluate("document.scrollingElement.scrollWidth") <= size["width"]
    boxes = page.eval_on_selector_all(
        ".chart, button, h1, p, li, dd, caption span",
        "all => all.filter(one => !one.closest('.scroll')).map(one => one.getBoundingClientRect())"
        ".map(box => [box.left, box.right])",
    )
    assert all(left >= 0 and right <= size["width"] for left, right in boxes)


@pytest.mark.parametrize("size", [WIDE, PHONE], ids=["wide", "phone"])
def test_figures_and_intervals_stay_in_their_cells(visit, size):
    page = visit("usual", size)
    drawn = page.eval_on_selector_all(
        "#chart-effects text",
        "all => all.filter(one => one.textContent && one.getAttribute('opacity') !== '0')"
        ".map(one => [one.textContent, one.getBoundingClientRect()]).map(([text, box]) => [text, box.left, box.right])",
    )
    cells = page.eval_on_selector_all(
        "#chart-effects .mark-rect path",
        "all => all.map(one => one.getBoundingClientRect()).map(box => [box.left, box.right])",
    )
    assert len(cells) == 7
    figures = [one for one in drawn if one[0][0] in "+\N{MINUS SIGN}0123456789"]
    assert len(figures) == (14 if size == WIDE else 21)
    for text, left, right in figures:
        assert any(from_ - 1 <= left and right <= to + 1 for from_, to in cells), text


def test_what_cannot_be_told_is_hatched(visit):
    page = visit("stuck")
    texts = [text for text in page.locator("#chart-effects text").all_text_contents() if text]
    assert texts.count("identifiable") == 2
    assert page.locator("#chart-effects .mark-rule line").count() >= 2 * 11
    assert page.get_by_text("the runs cannot tell").is_visible()
    assert page.locator("#chart-frontier svg").is_visible()


def test_hostile_names_are_text(visit):
    page = visit("hostile")
    assert page.evaluate("window.owned") is None
    assert page.locator("main img, main script").count() == 0
    body = page.locator("body").inner_text()
    for name in (HOSTILE[0], ROLES[0], ROLES[2]):
        assert name in body
    assert "\u202e" not in page.content()
    page.locator("#chart-effects .mark-rect path").first.hover(force=True)
    assert ROLES[0] in page.locator("#vg-tooltip-element").inner_text()
    assert page.evaluate("window.owned") is None


def test_the_theme_turns_the_cells(visit):
    page = visit("usual")
    colour = "() => getComputedStyle(document.querySelector('#chart-effects .mark-rect path')).fill"
    before = page.evaluate(colour)
    button = page.get_by_role("button", name="Dark colours")
    button.focus()
    page.keyboard.press("Enter")
    assert page.evaluate(colour) != before


def test_it_scrolls_by_keyboard_and_prints(visit):
    page = visit("usual", {"width": 320, "height": 700})
    region = page.get_by_role("region", name="Roles and models")
    assert region.get_attribute("tabindex") == "0"
    region.focus()
    page.keyboard.press("ArrowRight")
    page.wait_for_function("() => document.querySelector('[aria-label=\"Roles and models\"]').scrollLeft > 0")
    page.emulate_media(media="print")
    assert not page.locator("#theme").is_visible()
    assert page.locator("#chart-effects svg").is_visible()


def test_without_scripts_the_words_and_tables_remain(visit):
    page = visit("usual", script=False)
    assert page.locator("h1").inner_text() == "The coder matters most"
    assert page.locator(".chart:visible, #theme:visible").count() == 0
    assert page.locator("table").count() == 4
    assert page.get_by_text("The chart needs JavaScript").first.is_visible()


def test_before_any_run_it_says_so(visit):
    page = visit("bare")
    assert page.locator("h1").inner_text() == "No runs yet"
    assert page.locator("#chart-effects, #chart-frontier svg").count() <= 1
