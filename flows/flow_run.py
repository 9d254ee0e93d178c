"""Which flow run of Prefect this is called in."""

from prefect.client.schemas.objects import FlowRun
from prefect.context import FlowRunContext


def flow_run_here() -> FlowRun | None:
    """The flow run, in which a deployment's body or one of its parts runs; None by plain calls."""
    context = FlowRunContext.get()
    return context.flow_run if context else None
