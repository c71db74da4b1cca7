"""What a diagnosis does not show: said in every report, beside what it shows."""

from __future__ import annotations

from agentroute.evaluation import RoutingDiagnosis
from agentroute.reporting.words import percent, plain

__all__ = ["limits"]


def limits(diagnosis: RoutingDiagnosis) -> list[str]:
    """Sentences on the limits of the data and of the method, those of this log first."""
    evaluation, several = diagnosis.evaluation, len(diagnosis.singles) > 1
    ways = len(evaluation.rows)
    found = [f"{plain(note)[:1].upper()}{plain(note)[1:].rstrip('.')}." for note in evaluation.notes]
    if evaluation.coverage < 1:
        found.append(
            f"Only queries that every model has answered are judged: {evaluation.queries:,}, {percent(evaluation.coverage)} of "
            "those held out. The others may be of another kind."
        )
    found.append(
        "Intervals are over queries: another draw of queries like these. They do not cover another training part, another "
        "prompt, other settings of the models, or traffic of another kind than the log's."
    )
    if diagnosis.stable_oracle is None and several:
        found.append(
            "Each model's answer was drawn once, or it is not known how often. The oracle picks lucky answers too, so that the "
            "true way from the best single model to it is shorter than shown."
        )
    if diagnosis.frontier is None:
        found.append("Costs are unknown, so that no saving is shown.")
    else:
        found.append("Costs are those that were logged. Prices change, and so do lengths of answers, caches and discounts.")
    if diagnosis.frontier is not None and several:
        found.append(
            "The curve shows every willingness to pay on the same queries. Whoever picks its prettiest point afterwards will be "
            "a little disappointed: pick it by what an answer is worth."
        )
    if several:
        found.append(
            f"Of {ways} ways to choose{_and_tasks(diagnosis)}, about one in twenty of those that differ in nothing looks better "
            "or worse than noise allows: that is what 95 % means."
        )
    if not diagnosis.shifts:
        found.append(
            "There is no second window to compare with: nothing is known about models that change. Compare again with newer data."
        )
    found.append("Scores are taken as logged. Where a judge or a verifier errs, this report errs with it.")
    if diagnosis.votes or diagnosis.cascades:
        found.append("Votes and cascades are computed from single answers: nobody has run them.")
    return found


def _and_tasks(diagnosis: RoutingDiagnosis) -> str:
    return f" and {len(diagnosis.tasks)} tasks" if len(diagnosis.tasks) > 1 else ""
