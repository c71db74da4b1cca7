"""The commands of `agentroute team` and their options; what they do stands in the module beside this one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["team"]

team = typer.Typer(
    name="team",
    help="Give each role of a team of agents its own model, under one budget.",
    no_args_is_help=True,
    add_completion=False,
)

Runs = Annotated[
    Path, typer.Argument(metavar="RUNS", help="Runs of the team, as a RunLog keeps them: .jsonl.", show_default=False)
]
Folder = Annotated[Path, typer.Argument(metavar="DIR", help="The folder that `agentroute team fit` wrote.", show_default=False)]
TeamFile = Annotated[Path, typer.Option("--team", help="The roles and modes, as TOML.", show_default=False)]
Cards = Annotated[
    Path | None,
    typer.Option(
        help="The models, as a pool TOML; left out = those of the runs, with the costs logged there.", show_default=False
    ),
]


@team.command()
def fit(
    runs: Runs,
    *,
    team_file: TeamFile,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for what was learned.", show_default=False)],
    cards: Cards = None,
    willingness_to_pay: Annotated[
        float | None, typer.Option(help="USD that a success is worth; left out = as much success as the budget buys.")
    ] = None,
) -> None:
    """Learn from runs which model each role should have, and say of which roles nothing can be told."""
    from agentroute.cli._team import run_fit

    run_fit(runs, team_file, output, cards=cards, willingness_to_pay=willingness_to_pay)


@team.command()
def allocate(
    folder: Folder,
    task: Annotated[str, typer.Argument(metavar="TASK", help="What the team is asked.", show_default=False)],
    *,
    kind: Annotated[str | None, typer.Option("--task", metavar="KIND", help="The kind of task.", show_default=False)] = None,
    budget: Annotated[float | None, typer.Option(help="Most USD that the run may be expected to cost.")] = None,
    role: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ROLE=MODEL", help="A role's model, `none` = without the role; may be repeated.", show_default=False
        ),
    ] = None,
    mode: Annotated[str | None, typer.Option(help="How the agents work together; left out = the best way.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Say which model each role should have for a task, and why."""
    from agentroute.cli._team import run_allocate

    run_allocate(folder, task, kind=kind, budget=budget, fixed=role or (), mode=mode, as_json=as_json)


@team.command()
def report(
    given: Annotated[
        list[Path],
        typer.Argument(
            metavar="RUNS|DIR...",
            help="Runs (.jsonl), a folder that `agentroute team fit` wrote, or both: then its settings are judged by the runs.",
            show_default=False,
        ),
    ],
    *,
    output: Annotated[Path, typer.Option("--output", "-o", help="The page, one HTML file that needs no network.")] = Path(
        "team.html"
    ),
    png: Annotated[Path | None, typer.Option(help="Also the roles and models as a picture, for slides.")] = None,
    team_file: Annotated[
        Path | None,
        typer.Option(
            "--team", help="With runs alone: the roles and modes; left out = as the runs have them.", show_default=False
        ),
    ] = None,
    cards: Cards = None,
    seed: Annotated[int, typer.Option(min=0, help="Of everything random.")] = 0,
) -> None:
    """Write a page: which role deserves the strong model, what a budget buys, and what was learned from what."""
    from agentroute.cli._team import run_report

    run_report(given, output, png=png, team_file=team_file, cards=cards, seed=seed)
