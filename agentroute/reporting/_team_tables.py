"""The tables of a report on a team, for the page and for the terminal."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

from agentroute.evaluation import Interval
from agentroute.reporting._cells import BEYOND, Cell, Table, cell, difference, known, made, named
from agentroute.reporting._team_values import TeamDiagnosis, Way
from agentroute.reporting._team_words import called, shared
from agentroute.reporting.words import UNKNOWN, counted, percent, plain, span, thousand
from agentroute.teams import RoleEffect
from agentroute.teams._observing import REPLAYS
from agentroute.teams._values import NONE

__all__ = ["team_tables"]

_BY: Mapping[str, str] = {"dr": "whole runs", "sum": "parts", "mean": "the log itself"}
_UNKNOWN = Interval(value=math.nan, low=math.nan, high=math.nan)


def team_tables(found: TeamDiagnosis) -> dict[str, Table]:
    """What models add in roles, what budgets buy, what else there is, and what was learned from what, by name."""
    tables = [_effects(found), _budgets(found), _others(found), _sources(found), _credits(found)]
    return {table.name: table for table in tables if table.rows}


def _effects(found: TeamDiagnosis) -> Table:
    cards = not found.fit.runs
    rows = [_effect(found, one, cards=cards) for one in found.fit.effects]
    columns: tuple[str, ...] = ("Role", "Model", "Runs", "Adds to success, points", "On the logit", BEYOND)
    caption = "What each model adds in each role, against the mean of the models tried there."
    if cards:
        columns, caption = (
            ("Role", "Model", "Its card leads to expect, logit"),
            "What the models' cards lead to expect, before any run.",
        )
    table = known(made("effects", caption, columns, rows))
    return replace(table, words=frozenset({"Model", BEYOND}) & set(table.columns))


def _effect(found: TeamDiagnosis, one: RoleEffect, *, cards: bool) -> tuple[Cell, ...]:
    who = (named(one.role), Cell(text=called(one.model)))
    if cards:
        return (*who, Cell(text=f"{one.prior:+.2f}" if one.model != NONE else UNKNOWN))
    runs = Cell(text=f"{one.runs:,}")
    if one.logit is None or one.low is None or one.high is None:
        # Words, and never a number: there is none to be had.
        return (*who, runs, Cell(text=""), Cell(text=""), Cell(text=one.verdict))
    gain, said = difference(found.effect(one))
    return (*who, runs, gain, Cell(text=f"{one.logit:+.2f}", note=f"{one.low:+.2f} to {one.high:+.2f}"), said)


def _budgets(found: TeamDiagnosis) -> Table:
    frontier, roles = found.frontier, [role.name for role in found.team.roles]
    ways = [one for one in frontier.of("allocator") if one.budget is not None]
    maps = {one.budget: one for one in frontier.of("map")}
    rows = [
        (
            Cell(text=thousand(way.budget or 0.0)),
            *_success(way),
            _success(maps[way.budget] if way.budget in maps else _nobody())[0],
            *(Cell(text=shared(way, role)) for role in roles),
        )
        for way in ways
    ]
    names = [plain(role) for role in roles]
    columns = ("USD for 1,000 runs", "Own models, measured", "told by", "Own models, expected", "One map, measured", *names)
    caption = "Success at each budget, and who has which role, as a share of the tasks."
    marked = [place for place, way in enumerate(ways) if way is frontier.featured]
    table = known(made("budgets", caption, columns, rows, marked))
    return replace(table, words=frozenset({"told by", *names}), names=frozenset(names))


def _nobody() -> Way:
    return Way(name="", kind="map", expected=_UNKNOWN, expected_cost=math.nan, measured=_UNKNOWN, cost=_UNKNOWN)


def _success(way: Way) -> tuple[Cell, Cell, Cell]:
    """Measured, by what, and expected."""
    expected = cell(way.expected, percent)
    if math.isnan(way.measured.value):
        return Cell(text=way.verdict), Cell(text=""), expected
    return cell(way.measured, percent), Cell(text=_BY.get(way.by, "")), expected


def _others(found: TeamDiagnosis) -> Table:
    frontier = found.frontier
    ways = [*([frontier.featured] if frontier.featured else []), *frontier.of("one model"), *frontier.of("logged")]
    rows = []
    for way in ways:
        gain, said = difference(frontier.gains.get(way.name, _UNKNOWN))
        nothing = Cell(text="the measure") if way is frontier.featured else Cell(text="")
        unknown = way.name not in frontier.gains
        rows.append(
            (
                Cell(text=_name(way)),
                *_success(way),
                _cost(way),
                Cell(text="") if unknown else gain,
                nothing if unknown else said,
            )
        )
    columns = (
        "Way to give models",
        "Measured",
        "told by",
        "Expected",
        "USD for 1,000 runs",
        "Own models gain on it, points",
        BEYOND,
    )
    runs = counted(found.sources.drawn, "run")
    caption = (
        f"Beside one model everywhere; measured on {runs} drawn by lot." if frontier.measured else "Beside one model everywhere."
    )
    table = known(made("others", caption, columns, rows, [0] if frontier.featured else []))
    return replace(table, words=frozenset({"told by", BEYOND}) & set(table.columns))


def _name(way: Way) -> str:
    if way.kind == "allocator":
        return "own models" if way.budget is None else f"own models, {thousand(way.budget)} for 1,000 runs"
    return plain(way.name)


def _cost(way: Way) -> Cell:
    if not math.isnan(way.cost.value):
        return cell(way.cost, thousand)
    return Cell(text=thousand(way.expected_cost))


def _sources(found: TeamDiagnosis) -> Table:
    sources, fit = found.sources, found.fit
    models = f"{len(found.models)} models' cards"
    rows = [
        ("the models' cards", models, "what to expect before any run; the more runs there are, the less it counts"),
        ("runs", _of(sources.runs, sources.tasks), "what models add in roles, and what runs cost"),
        ("drawn by lot", f"{sources.drawn:,}", "the only runs that tell cause from habit, and that a gain is measured by"),
        ("scored role by role", f"{sources.scored:,}", "what a role's own model does, apart from the others"),
        ("replays", f"{sources.replays:,}", "the same run with one role's model changed: what that model was worth there"),
    ]
    kinds = ", ".join(map(plain, fit.kinds))
    rows += [("kinds of task", f"{len(fit.kinds)}", kinds)] if fit.kinds else []
    if fit.broken:
        rows.append(("broke off when a model failed", f"{fit.broken:,}", "that the team fails with a model that fails"))
    rows += [(f"left out: {plain(why)}", f"{count:,}", "nothing") for why, count in sources.left_out.items() if why != REPLAYS]
    rows += (
        [("replays left out", f"{sources.odd:,}", "nothing: the run is not there, or more than one role changed")]
        if sources.odd
        else []
    )
    made_ = made(
        "sources", "", ("From", "How many", "What was learned"), [tuple(Cell(text=text) for text in row) for row in rows]
    )
    return replace(made_, caption="What was learned from what.", words=frozenset({"What was learned"}))


def _of(runs: int, tasks: int) -> str:
    return f"{runs:,}, of {counted(tasks, 'task')}" if tasks else f"{runs:,}"


def _credits(found: TeamDiagnosis) -> Table:
    rows = []
    for one in found.credits:
        gain, said = difference(Interval(value=one.gain, low=one.low, high=one.high))
        if not span(Interval(value=one.gain, low=one.low, high=one.high), percent):
            said = Cell(text="a single run")
        rows.append(
            (
                named(one.role),
                Cell(text=called(one.model)),
                Cell(text=called(one.instead)),
                Cell(text=f"{one.runs:,}"),
                gain,
                said,
            )
        )
    columns = ("Role", "Model", "Instead of", "Runs replayed", "Gain, points", BEYOND)
    table = made("credits", "What replays say: all as it was, and one role's model changed.", columns, rows)
    return replace(table, words=frozenset({"Model", "Instead of", BEYOND}))
