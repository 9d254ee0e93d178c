"""Specimens: all of them, and one with what its areas received."""

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse

from db.questions.lists import list_samples
from db.questions.runs import list_runs
from db.questions.sample_dose import sample_dose
from web.view.pages import Asked, further, page

router = APIRouter()


@router.get("/samples")
def samples(request: Request, session: Asked, before: int | None = None) -> HTMLResponse:
    """Specimens, newest first."""
    found = list_samples(session, limit=50, before=before)
    older = further(request, before=found["next_before"]) if found["next_before"] else None
    return page(request, "samples.html", samples=found["samples"], older=older)


@router.get("/samples/{name:path}")
def sample(request: Request, session: Asked, name: str) -> HTMLResponse:
    """One specimen: its areas against their budgets, and its latest runs."""
    facts = sample_dose(session, sample=name)
    return page(request, "sample.html", sample=facts, runs=list_runs(session, sample=name, limit=20).runs)
