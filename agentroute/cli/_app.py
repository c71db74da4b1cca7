"""The commands and their options; what they do stands in the modules beside this one."""

from __future__ import annotations

import contextlib
import errno
import os
import sys
import warnings
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from agentroute.cli._options import By, Seen
from agentroute.cli._team_app import team
from agentroute.errors import AgentRouteError, AgentRouteWarning, ConfigError

__all__ = ["app", "run"]

app = typer.Typer(
    name="agentroute",
    help="Pick the right language model for each call: learned from your own outcomes, under your budget, with honest numbers.",
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.add_typer(team)
# Newer typers carry their own click, older ones use the installed one; this is the usage error of whichever it is.
_UsageError: Any = typer.BadParameter.__bases__[0]

_INTERRUPTED = 130

Log = Annotated[Path, typer.Argument(help="An outcome log: .sqlite, .jsonl, .jsonl.gz, .csv or .parquet.", show_default=False)]
Folder = Annotated[Path, typer.Argument(metavar="DIR", help="The folder that `agentroute fit` wrote.", show_default=False)]
Seed = Annotated[int, typer.Option(min=0, help="Of the split.")]
Holdout = Annotated[
    Path | None,
    typer.Option(help="A second log: do the models still score there what they score in the first?", show_default=False),
]
Options = Annotated[
    list[str] | None,
    typer.Option(help="Answers to choose from in multiple-choice questions: 4, or task=4; may be repeated.", show_default=False),
]
Prices = Annotated[
    Path | None,
    typer.Option(help="Prices of the models, as a pool TOML: they fill in costs from logged tokens.", show_default=False),
]
Cascade = Annotated[bool, typer.Option("--cascade", help="Cascades: look at an answer before another model is asked.")]
Signals = Annotated[
    str | None,
    typer.Option(
        metavar="COLUMNS",
        help="With --cascade: what the log knows of each answer, such as logprob,self_check; left out = logprob and length.",
        show_default=False,
    ),
]
Answer = Annotated[
    str | None, typer.Option(metavar="COLUMN", help="With --cascade: the answers' texts; left out = answer.", show_default=False)
]
ScoreCost = Annotated[
    str | None,
    typer.Option(
        metavar="COLUMN", help="With --cascade: USD of scoring each answer; left out = score_cost_usd.", show_default=False
    ),
]


@app.callback(invoke_without_command=True)
def _top(
    context: typer.Context, *, version: Annotated[bool, typer.Option("--version", help="Show the version and exit.")] = False
) -> None:
    if version:
        import agentroute

        typer.echo(f"agentroute {agentroute.__version__}")
    elif context.invoked_subcommand is None:
        typer.echo(context.get_help())


@app.command()
def demo(
    *,
    tiny: Annotated[
        bool, typer.Option("--tiny", help="Run the smallest model only; recorded answers stand for the others.")
    ] = False,
    full: Annotated[bool, typer.Option("--full", help="Run all three models (1.7 GB of downloads).")] = False,
    questions: Annotated[int, typer.Option(min=1, help="Held-out questions to answer live.")] = 14,
    seed: Annotated[int, typer.Option(min=0, help="Of the split and of the questions.")] = 0,
    log: Annotated[Path | None, typer.Option(help="Keep the live outcomes in this log.")] = None,
) -> None:
    """Route real questions to real language models on this machine, and see what it saves."""
    from agentroute.cli._demo import run_demo

    if tiny and full:
        raise ConfigError("give --tiny or --full, not both")
    run_demo(size="tiny" if tiny else "full" if full else "default", questions=questions, seed=seed, log=log)


@app.command()
def collect(
    tasks: Annotated[Path, typer.Argument(help="Tasks with verifiers, as JSON lines (.jsonl or .jsonl.gz).", show_default=False)],
    *,
    pool: Annotated[Path, typer.Option(help="The models, as TOML.", show_default=False)],
    output: Annotated[Path, typer.Option("--output", "-o", help="The log (.sqlite), made or added to.", show_default=False)],
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first tasks of the file.")] = None,
) -> None:
    """Ask every model of a pool every task, and log each verified outcome. Stop and start again at will."""
    from agentroute.cli._collect import run_collect

    run_collect(tasks, pool, output, limit)


@app.command()
def fit(
    log: Log,
    *,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the router.", show_default=False)],
    willingness_to_pay: Annotated[
        float | None, typer.Option(help="USD that a right answer instead of a wrong one is worth; left out = quality alone.")
    ] = None,
    mean_cost: Annotated[
        float | None,
        typer.Option(
            "--mean-cost", "--budget", help="USD to spend per query on average, instead; of a cascade scoring included."
        ),
    ] = None,
    default: Annotated[str | None, typer.Option(help="The model that answers when the log says too little.")] = None,
    cards: Annotated[
        Path | None,
        typer.Option(
            help="Prices, windows and capabilities of the models, as a pool TOML; prices fill in costs from logged tokens."
        ),
    ] = None,
    keep_prompts: Annotated[bool, typer.Option("--keep-prompts", help="Store the logged prompts in the router.")] = False,
    cascade: Cascade = False,
    signals: Signals = None,
    answer: Answer = None,
    score_cost: ScoreCost = None,
) -> None:
    """Learn a router, or a cascade, from a log.

    Columns of a file log: prompt, model and score (0 to 1); if known, cost_usd, latency_s, input_tokens, output_tokens, task. For
    a cascade also logprob or other signals, the answer's text, and score_cost_usd.
    """
    seen = _seen(cascade, signals, answer, score_cost)
    if seen is not None:
        from agentroute.cli._cascade import run_fit_cascade

        run_fit_cascade(
            log,
            output,
            seen,
            willingness_to_pay=willingness_to_pay,
            budget=mean_cost,
            default=default,
            cards=cards,
            keep=keep_prompts,
        )
        return
    from agentroute.cli._fit import run_fit

    run_fit(
        log, output, willingness_to_pay=willingness_to_pay, mean_cost=mean_cost, default=default, cards=cards, keep=keep_prompts
    )


@app.command()
def evaluate(
    folder: Annotated[
        Path,
        typer.Argument(
            metavar="[DIR]", help="The folder that `agentroute fit` wrote; with --cascade it may be left out.", show_default=False
        ),
    ],
    log: Annotated[
        Path | None,
        typer.Argument(metavar="LOG", help="An outcome log: .sqlite, .jsonl, .jsonl.gz, .csv or .parquet.", show_default=False),
    ] = None,
    *,
    by: Annotated[
        By,
        typer.Option(
            help="What is held out: queries, one task after the other, the latest queries, or one model after the other."
        ),
    ] = By.QUERY,
    seed: Seed = 0,
    test_share: Annotated[
        float | None,
        typer.Option(
            help="Share of the queries that is held out; left out = 0.3, and with --cascade each query once, by fifths."
        ),
    ] = None,
    probes: Annotated[int, typer.Option(min=1, help="With --by model: outcomes with which the new model joins.")] = 200,
    cascade: Cascade = False,
    signals: Signals = None,
    answer: Answer = None,
    score_cost: ScoreCost = None,
    as_json: Annotated[bool, typer.Option("--json", help="With --cascade: print all figures as JSON.")] = False,
) -> None:
    """Say what the router's settings gain on held-out queries: they are learned anew from the rest of the log first.

    With --cascade: whether looking at answers, and asking another model, would pay beside routing.
    """
    seen = _seen(cascade, signals, answer, score_cost)
    if seen is not None:
        from agentroute.cli._cascade import run_evaluate_cascade

        settings, data = (None, folder) if log is None else (folder, log)
        run_evaluate_cascade(settings, data, seen, by=by, seed=seed, test_share=test_share, as_json=as_json)
        return
    from agentroute.cli._evaluate import run_evaluate

    if log is None:
        raise ConfigError("give a router's folder and a log: agentroute evaluate DIR LOG (a log alone goes with --cascade)")
    if as_json:
        raise ConfigError("--json goes with --cascade; agentroute diagnose --json prints what routing gains as JSON")
    run_evaluate(folder, log, by=by, seed=seed, test_share=0.3 if test_share is None else test_share, probes=probes)


@app.command()
def diagnose(
    log: Log,
    *,
    holdout: Holdout = None,
    options: Options = None,
    cards: Prices = None,
    seed: Annotated[int, typer.Option(min=0, help="Of everything random.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print all figures as JSON.")] = False,
) -> None:
    """Say whether routing is worth it on a log: route, cascade, ensemble, one model, or more data; and why."""
    from agentroute.cli._report import run_diagnose

    run_diagnose(log, holdout=holdout, options=options or (), cards=cards, as_json=as_json, seed=seed)


@app.command()
def report(
    log: Log,
    router: Annotated[
        Path | None,
        typer.Argument(
            metavar="[DIR]", help="A router whose settings are judged, learned anew on parts of the log.", show_default=False
        ),
    ] = None,
    *,
    output: Annotated[Path, typer.Option("--output", "-o", help="The page, one HTML file that needs no network.")] = Path(
        "report.html"
    ),
    png: Annotated[Path | None, typer.Option(help="Also the cost-quality plane as a picture, for slides.")] = None,
    holdout: Holdout = None,
    options: Options = None,
    cards: Prices = None,
    seed: Annotated[int, typer.Option(min=0, help="Of everything random.")] = 0,
    cascade: Cascade = False,
    signals: Signals = None,
    answer: Answer = None,
    score_cost: ScoreCost = None,
) -> None:
    """Write a diagnosis as a page to hand on: the cost-quality plane, tables by task and model, calibration, limits."""
    seen = _seen(cascade, signals, answer, score_cost)
    from agentroute.cli._report import run_report

    run_report(log, router, output, png=png, holdout=holdout, options=options or (), cards=cards, seed=seed, cascade=seen)


@app.command()
def route(
    folder: Folder,
    prompt: Annotated[str, typer.Argument(help="What is asked.", show_default=False)],
    *,
    role: Annotated[str | None, typer.Option(help="The agent role that asks.")] = None,
    task: Annotated[str | None, typer.Option(help="The kind of task.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Say which model should answer, and why."""
    from agentroute.cli._route import run_route

    run_route(folder, prompt, role=role, task=task, as_json=as_json)


@app.command(name="log")
def show_log(log: Log) -> None:
    """Say what a log holds."""
    from agentroute.cli._log import run_log

    run_log(log)


def _seen(cascade: bool, signals: str | None, answer: str | None, score_cost: str | None) -> Seen | None:  # noqa: FBT001  # as the options are
    """What a cascade may look at; `None` = nothing is asked about cascades."""
    found = Seen(signals=signals, answer=answer, score_cost=score_cost)
    if not cascade and found.given:
        raise ConfigError("--signals, --answer and --score-cost go with --cascade")
    return found if cascade else None


def _discard_output() -> None:
    """Lets what is still buffered go nowhere: flushed at exit, it would break the pipe again."""
    with contextlib.suppress(OSError, ValueError):  # an output without a descriptor has nothing to flush into
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def run(arguments: list[str]) -> int:
    """Runs one command; every foreseen error becomes one line on stderr and the code 2."""
    errors = Console(stderr=True, markup=False, highlight=False, soft_wrap=True)

    def fail(words: str) -> int:
        errors.print(f"agentroute: {' '.join(words.split())}", style="red")
        return 2

    def note(message: Warning | str, *_: Any) -> None:
        errors.print(f"note: {' '.join(str(message).split())}", style="yellow")

    with warnings.catch_warnings():
        warnings.simplefilter("always", AgentRouteWarning)
        warnings.showwarning = note  # type: ignore[assignment]  # it takes the same arguments and uses one
        try:
            code = typer.main.get_command(app).main(args=arguments, prog_name="agentroute", standalone_mode=False)
        except _UsageError as error:
            # An unknown option may come without its context, and then without the command's name.
            command = "agentroute" if error.ctx is None else error.ctx.command_path
            return fail(f"{error.format_message()} (see `{command} --help`)")
        except (typer.Abort, KeyboardInterrupt):
            code = _INTERRUPTED
        except SystemExit as ended:
            # `agentroute log ... | head` is no error; rich and click each leave with their own code after a broken pipe.
            if not isinstance(ended.__context__, OSError) or ended.__context__.errno != errno.EPIPE:
                raise
            _discard_output()
            return 0
        except AgentRouteError as error:
            return fail(str(error))
        except OSError as error:
            return fail(f"{error.filename}: {error.strerror}" if error.filename and error.strerror else str(error))
    if code == _INTERRUPTED:  # typer may give the code, or raise as above
        errors.print("interrupted")
    return code if isinstance(code, int) else 0
