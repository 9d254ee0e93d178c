"""Asks for a run of a deployment, without waiting for it: however often the same is asked, it is one run."""

import difflib
import json
import re
from collections.abc import Mapping
from typing import Any, get_args

from prefect.exceptions import ObjectNotFound, PrefectHTTPStatusError

from db.vocabulary import AskedBy
from flows.ask_prefect import WITHIN_S, ask_prefect, said_of
from stem4d.errors import BadInput, some_of
from stem4d.model import sha256_of
from storage.plain_json import refuse_unsound
from storage.triggers import DEPLOYMENT_PATTERN, RESERVED
from storage.units import unit_of

LONGEST_KEY = 300
_REFUSED = re.compile(
    r"Validation failed(?: for field (?P<quote>['\"])(?P<field>.*?)(?P=quote))?\. Failure reason: (?P<why>.*)",
    re.DOTALL,
)


def submit(
    deployment: str, parameters: Mapping[str, Any], *, source: AskedBy, key: str, within_s: float = WITHIN_S
) -> str:
    """Ask for a run of a deployment; gives the flow run's id, the same one for the same source and key.

    The parameters ``source`` and ``key`` are added: the deployed flow claims them in our database, which knows them
    for longer than Prefect does.

    Raises
    ------
    BadInput
        For a deployment that Prefect does not have (field ``deployment``), and for parameters that it refuses.
    NoApi
        Where there is no Prefect API, or it does not answer for so long.
    """
    _refuse(deployment, parameters, source, key)
    wanted = {**parameters, "source": source, "key": key}
    # Prefect keeps keys by flow: two deployments of one would share them.
    once = sha256_of(json.dumps([deployment, source, key]))

    def ask(client: Any) -> str:
        try:
            found = client.read_deployment_by_name(deployment)
            _refuse_unknown(deployment, wanted, found.parameter_openapi_schema or {})
            made = client.create_flow_run_from_deployment(
                found.id, parameters=wanted, tags=[f"trigger:{source}"], idempotency_key=once
            )
        except ObjectNotFound:
            raise _unknown(client, deployment) from None
        except PrefectHTTPStatusError as error:
            if error.response.status_code != 409:
                raise
            raise _refused(said_of(error.response), wanted) from None
        return str(made.id)

    return ask_prefect(ask, within_s)


def _refuse(deployment: str, parameters: Mapping[str, Any], source: str, key: str) -> None:
    if not re.fullmatch(DEPLOYMENT_PATTERN, deployment):
        raise BadInput(field="deployment", value=deployment, limit="is written as FLOW/NAME")
    if source not in get_args(AskedBy):
        raise BadInput(field="source", value=source, limit=f"one of {', '.join(get_args(AskedBy))}")
    if not 1 <= len(key) <= LONGEST_KEY or not key.isprintable():
        raise BadInput(field="key", value=key, limit=f"1 to {LONGEST_KEY} printable characters")
    refuse_unsound(parameters, "parameters")
    for name in RESERVED:
        if name in parameters:
            raise BadInput(field=f"parameters.{name}", value=parameters[name], limit="is set by nightbeam itself")


def _unknown(client: Any, deployment: str) -> BadInput:
    """That there is no such deployment, with those that are closest."""
    flows = {flow.id: flow.name for flow in client.read_flows()}
    names = sorted(f"{flows[one.flow_id]}/{one.name}" for one in client.read_deployments() if one.flow_id in flows)
    near = difflib.get_close_matches(deployment, names, 3, 0.5)
    remedy = "Start `nightbeam serve`, or deploy it: nothing is deployed there"
    if names:
        remedy = f"Did you mean {' or '.join(near)}?" if near else f"There are: {some_of(names)}"
    return BadInput(field="deployment", value=deployment, limit="Prefect has no such deployment", remedy=remedy)


def _refuse_unknown(deployment: str, parameters: Mapping[str, Any], schema: Mapping[str, Any]) -> None:
    """Prefect takes any name, and the run would fail when it begins."""
    known = schema.get("properties") or {}
    if any(name not in known for name in RESERVED):
        limit = f"has no parameters {' and '.join(RESERVED)}, by which a trigger is made once"
        raise BadInput(field="deployment", value=deployment, limit=limit)
    for name in parameters:
        if name not in known:
            near = difflib.get_close_matches(name, known, 1, 0.5)
            theirs = some_of(sorted(one for one in known if one not in RESERVED)) or "none"
            remedy = f"Did you mean {near[0]}?" if near else f"It has: {theirs}"
            limit = f"{deployment} has no such parameter"
            raise BadInput(field=f"parameters.{name}", value=parameters[name], limit=limit, remedy=remedy)


def _refused(detail: str, parameters: dict[str, Any]) -> BadInput:
    """Prefect's words for parameters that do not fit the deployment's schema, as ours."""
    found = _REFUSED.search(detail)
    field = found["field"] if found else None
    why = found["why"] if found else detail
    if field is None:
        given = [name for name in parameters if name not in RESERVED]
        return BadInput(field="parameters", value=some_of(given) or "none", limit=why)
    return BadInput(field=field, value=_at(parameters, field), limit=why, unit=unit_of(field))


def _at(node: Any, field: str) -> object:
    """The value at a place that Prefect names, as ``scan.shape[0]``; its text where that is not understood."""
    for name, number in re.findall(r"([^.\[\]]+)|\[(\d+)\]", field):
        try:
            node = node[int(number)] if number else node[name]
        except (KeyError, IndexError, TypeError):
            return "(not shown)"
    return node
