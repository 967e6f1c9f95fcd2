"""Which of the three ways runs a study's trials."""

from orchestrator.domain.specification import StudySpecification


def choose_execution(specification: StudySpecification) -> str:
    """Returns "tune", "pooled" or "inline" for a study on Ray.

    `auto` takes the pooled way, whose trials cost a millisecond, unless a trial holds more than one GPU: such trials
    last for minutes and want a process of their own.
    """
    if specification.execution != "auto":
        return specification.execution
    return "tune" if specification.resources.gpu > 1 else "pooled"
