"""`agentroute team`: fit, allocate and report."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from agentroute.cli._data import exists, progress_bar
from agentroute.cli._output import check, flows, write
from agentroute.cli._team_file import read_team
from agentroute.cli.figures import table_of, usd
from agentroute.collection import pool_of, read_pool
from agentroute.errors import ConfigError, DataError, PriceUnknownError
from agentroute.pool import ModelPool
from agentroute.reporting import diagnose_team, team_html, team_png, team_tables
from agentroute.reporting._json import as_plain
from agentroute.reporting.words import percent, plain
from agentroute.teams import NONE, Allocation, Mode, Role, RoleAllocator, RunLog, Team, TeamRun
from agentroute.types import Query

__all__ = ["run_allocate", "run_fit", "run_report"]


def run_fit(runs: Path, team_file: Path, output: Path, *, cards: Path | None, willingness_to_pay: float | None) -> None:
    """Learns from all runs, saves what was learned, and says of what nothing can be; of runs that tell nothing, nothing is saved.

    Args:
        runs: A log of runs.
        team_file: Roles and modes.
        output: The folder.
        cards: A pool file; `None` = the models of the runs.
        willingness_to_pay: USD that a success is worth; `None` = infinity.
    """
    found = _read(runs)
    made = _allocator(found, read_team(exists(team_file)), cards, willingness_to_pay)
    with progress_bar() as tell:
        tell("learning", 0.2)
        report = made.fit(found)
    if report.useless:
        known = {role.name for role in made.team.roles}
        strange = [role for role in dict.fromkeys(role for run in found for role in run.models) if role not in known]
        lacks = f"; {team_file} lacks {', '.join(map(repr, strange))}" if strange else ""
        raise DataError(f"{runs}: nothing can be learned from {report.useless}{lacks}")
    made.save(output)
    console = Console()
    team = f"{len(made.team.roles)} roles and {len(made.ids)} models"
    _say(console, f"{report.runs} runs of {team} learned; the team is in {output}")
    for source in report.sources:
        _say(console, plain(source), style="dim")
    for verdict in report.verdicts:
        _say(console, plain(verdict), style="yellow")
    table = team_tables(diagnose_team(made, budgets=0))["effects"]
    console.print(table_of(table.caption, table.columns, [[_cell(cell) for cell in row] for row in table.rows]))


def run_allocate(
    folder: Path, text: str, *, kind: str | None, budget: float | None, fixed: Sequence[str], mode: str | None, as_json: bool
) -> None:
    """Prints who gets what for one task, and why.

    Args:
        folder: What `run_fit` wrote.
        text: The task.
        kind: Its kind.
        budget: USD; `None` = none.
        fixed: `role=model`, for roles whose model is given.
        mode: How the agents work together; `None` = the best way.
        as_json: Whether to print JSON.
    """
    if budget is not None and not budget >= 0.0:
        raise ConfigError(f"--budget {budget:g}: give USD of a run, 0 or more, or leave it out where any price will do")
    made = RoleAllocator.load(exists(folder))
    try:
        found = made.allocate(Query(text=text, task=kind), budget=budget, fixed=_needed(_fixed(fixed), made.team), mode=mode)
    except PriceUnknownError as error:
        # What the error says is for programs; here costs come from the runs, and prices from a file.
        models = ", ".join(map(repr, error.models))
        raise ConfigError(
            f"no price and no logged cost for {models}: log what each role of a run cost, or fit with prices, --cards POOL.toml"
        ) from error
    kinds = made.parts()[1]
    if kinds.by_ == "task" and kind not in kinds.names_:
        why = "no --task is given" if kind is None else f"no task of the kind {plain(kind)!r} was logged often enough"
        told = f"note: {why}: this is what is best for all tasks; known are {', '.join(map(plain, kinds.names_))}"
        Console(stderr=True).print(told, style="dim", soft_wrap=True, highlight=False, markup=False)
    if as_json:
        Console().out(json.dumps(as_plain(found), indent=2, ensure_ascii=False, allow_nan=False), highlight=False)
        return
    _show(Console(), made, found)


def _show(console: Console, made: RoleAllocator, found: Allocation) -> None:
    rows = [
        (plain(role.name), plain(found.models.get(role.name, NONE)), plain(found.reasons.get(role.name, "")))
        for role in made.team.roles
    ]
    told = table_of(f"Mode {plain(found.mode)}", ("role", "model", "why"), rows)
    for column in told.columns[1:]:
        column.justify = "left"
    console.print(told)
    low, high = found.quality_interval
    _say(console, f"expected success {percent(found.expected_quality)} ({percent(low).removesuffix(' %')} to {percent(high)})")
    if math.isfinite(found.expected_cost):
        at_most = "" if found.budget is None else f", of a budget of {usd(found.budget)}"
        _say(console, f"expected cost {usd(found.expected_cost)} a run{at_most}; 95 % of runs stay below {usd(found.cost_upper)}")
    else:
        _say(console, "expected cost unknown: log what runs cost, or give prices with --cards when you fit")
    if not found.exact:
        _say(console, "a better allocation may exist: there are too many to try them all", style="dim")


def run_report(
    given: Sequence[Path], output: Path, *, png: Path | None, team_file: Path | None, cards: Path | None, seed: int
) -> None:
    """Writes the page, and the picture if one is asked for.

    Args:
        given: A log of runs, a folder, or both.
        output: The page.
        png: The picture; `None` = none.
        team_file: Roles and modes, for runs alone; `None` = as the runs have them.
        cards: A pool file, for runs alone.
        seed: Of everything random.
    """
    log, folder = _sources(given)
    if folder is not None and (team_file is not None or cards is not None):
        raise ConfigError(f"--team and --cards go with runs alone: {folder} has its own")
    for place in (output, png):
        if place is not None:
            check(place, log, team_file, cards)
    if png is not None and png.suffix.lower() != ".png":
        raise ConfigError(f"--png {png}: the picture is a PNG, so name it {png.with_suffix('.png').name}")
    if png is not None and png.resolve() == output.resolve():
        raise ConfigError(f"the page and the picture cannot both be {png}: name two files")
    runs = [] if log is None else _read(log)
    if folder is not None:
        made = RoleAllocator.load(folder)
    else:
        if not runs:
            raise DataError(f"{log} holds no run yet: there is nothing to report")
        made = _allocator(runs, (_team_of(runs), "") if team_file is None else read_team(exists(team_file)), cards, None)
    with progress_bar() as tell:
        found = diagnose_team(made, runs, seed=seed, progress=tell)
    source = ", ".join(one.name for one in (log, folder) if one is not None)
    page = team_html(found, source=source)
    for place, content in ((output, page.encode()), (png, None)):
        if place is not None:
            write(place, team_png(found) if content is None else content)
    # A page that goes into a pipe is alone there.
    console = Console(stderr=any(place is not None and flows(place) for place in (output, png)))
    _say(console, plain(f"{found.verdict}. {found.headline}"), style="bold")
    written = [str(place) for place in (output, png) if place is not None]
    _say(console, f"written: {' and '.join(written)}")


def _sources(given: Sequence[Path]) -> tuple[Path | None, Path | None]:
    """The log and the folder among what is given."""
    folders = [one for one in given if exists(one).is_dir()]
    logs = [one for one in given if one not in folders]
    if len(folders) > 1 or len(logs) > 1:
        raise ConfigError(f"give one log of runs, one folder, or one of each, not {', '.join(map(str, given))}")
    return next(iter(logs), None), next(iter(folders), None)


def _read(path: Path) -> list[TeamRun]:
    """The runs of a log.

    Raises:
        ConfigError: There is no such file.
        DataError: It holds something, and no run.
    """
    if exists(path).is_dir():
        raise ConfigError(f"{path} is a folder: give the file of the runs")
    found = list(iter(RunLog(path)))  # read once: of the log itself `list` would ask its length first
    if not found and path.stat().st_size:
        raise DataError(f"{path} holds no run of a team: a line is what agentroute.teams.RunLog writes")
    return found


def _allocator(
    runs: Sequence[TeamRun], told: tuple[Team, str], cards: Path | None, willingness_to_pay: float | None
) -> RoleAllocator:
    team, task = told
    models = _models_of(runs)
    if cards is None and not models:
        raise ConfigError("there are no runs, so that no model is known: give the models with --cards POOL.toml")
    pool = ModelPool(models) if cards is None else pool_of(read_pool(exists(cards)))
    worth = math.inf if willingness_to_pay is None else willingness_to_pay
    return RoleAllocator(team, pool, task=task, willingness_to_pay=worth)


def _models_of(runs: Sequence[TeamRun]) -> list[str]:
    """Every model of the runs, in the order in which they come up."""
    return [model for model in dict.fromkeys(model for run in runs for model in run.models.values()) if model != NONE]


def _team_of(runs: Sequence[TeamRun]) -> Team:
    """The team that has made these runs, as far as they tell: a role that is left out somewhere is optional."""
    names = dict.fromkeys(role for run in runs for role in run.models)
    return Team(
        roles=tuple(Role(name=name, optional=any(run.models.get(name, NONE) == NONE for run in runs)) for name in names),
        modes=tuple(Mode(name=name) for name in dict.fromkeys(run.mode for run in runs)),
    )


def _fixed(given: Sequence[str]) -> dict[str, str]:
    """`["planner=small"]` → by role."""
    fixed: dict[str, str] = {}
    for text in given:
        role, equals, model = text.partition("=")
        if not (equals and role.strip() and model.strip()):
            raise ConfigError(f"--role {text!r}: give a role and its model, such as planner=small")
        if role.strip() in fixed:
            raise ConfigError(f"--role names {role.strip()!r} twice: give it one model")
        fixed[role.strip()] = model.strip()
    return fixed


def _needed(fixed: dict[str, str], team: Team) -> dict[str, str]:
    """What `--role` gives, where it leaves out nobody who must be there."""
    for role in team.roles:
        if fixed.get(role.name) == NONE and not role.optional:
            name = plain(role.name)
            raise ConfigError(f"--role {name}={NONE}: the team needs its {name}; `optional = true` in the team file changes that")
    if all(fixed.get(role.name) == NONE for role in team.roles):
        raise ConfigError("--role leaves out every role: somebody must do the work")
    return fixed


def _cell(cell: object) -> str:
    text, note = getattr(cell, "text", ""), getattr(cell, "note", "")
    return f"{text} ({note})" if note else str(text)


def _say(console: Console, text: str, *, style: str | None = None) -> None:
    console.print(text, soft_wrap=True, highlight=False, markup=False, style=style)
