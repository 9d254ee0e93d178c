"""Results of one analysis as an HDF5 file of its own: an NXdata for each picture, the figures, and their origin."""

import errno
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from io import BytesIO
from math import isfinite
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from stem4d.analyse.method import Outcome, Picture
from stem4d.errors import BadInput
from storage.disk import refusal
from storage.home import unusable
from storage.layout import LIBVER

FORMAT_VERSION = 1
_DAMAGE = (OSError, RuntimeError, KeyError, ValueError, TypeError, AttributeError)


@dataclass(frozen=True)
class Results:
    """An outcome and what it was made from."""

    method: str
    outcome: Outcome
    made_from: Mapping[str, Any]
    """Options, geometry, checksums of the inputs and software, as JSON has them."""


def write_results(path: Path, results: Results) -> None:
    """Write the file under its final name in one step; an older one of that name is replaced.

    Raises
    ------
    BadInput
        The folder cannot be made or written to.
    """
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise unusable(error) from None
    try:
        # In memory first: HDF5 that met a full disk brings the process down at its end.
        whole = BytesIO()
        with h5py.File(whole, "w", libver=LIBVER) as file:
            _fill(file, results)
        with partial.open("wb") as written:
            written.write(whole.getbuffer())
            written.flush()
            os.fsync(written.fileno())
        partial.replace(path)
    except (OSError, RuntimeError) as error:
        # HDF5's errors carry neither number nor name of the file.
        raise unusable(OSError(_number(error), str(error), str(path))) from None
    finally:
        partial.unlink(missing_ok=True)


def _number(error: OSError | RuntimeError) -> int:
    if refusal(error):
        return errno.ENOSPC
    return (error.errno if isinstance(error, OSError) else None) or errno.EIO


def read_results(path: Path) -> Results:
    """The reverse of ``write_results``; `BadInput` where the file is damaged or of a newer nightbeam."""
    try:
        with h5py.File(path, "r") as file:
            entry = file["entry"]
            version = int(entry.attrs["format_version"])
            if version > FORMAT_VERSION:
                limit = f"this nightbeam reads results up to version {FORMAT_VERSION}"
                raise BadInput(field=path.name, value=version, limit=limit, remedy="Use a newer nightbeam")
            pictures = tuple(_picture(entry[name]) for name in json.loads(entry.attrs["pictures"]))
            told = json.loads(entry["figures"][()])
            return Results(
                str(entry.attrs["method"]),
                Outcome(entry.attrs["verdict"], str(entry.attrs["reason"]), told, pictures),
                json.loads(entry["made_from"][()]),
            )
    except _DAMAGE as error:
        limit = f"is no file of results that can be read ({type(error).__name__})"
        raise BadInput(field="file", value=str(path), limit=limit, remedy="Analyse again with --again") from None


def finite(figures: Mapping[str, Any]) -> dict[str, Any]:
    """Figures as JSON can have them: what could not be worked out is None, not NaN."""
    return {
        name: None if isinstance(value, float) and not isfinite(value) else value for name, value in figures.items()
    }


def _fill(file: h5py.File, results: Results) -> None:
    outcome = results.outcome
    entry = file.create_group("entry")
    entry.attrs.update(
        NX_class="NXentry",
        format_version=FORMAT_VERSION,
        method=results.method,
        verdict=outcome.verdict,
        reason=outcome.reason,
        pictures=json.dumps([_group_of(one) for one in outcome.pictures]),
    )
    if outcome.pictures:
        entry.attrs["default"] = _group_of(outcome.pictures[0])
        file.attrs["default"] = "entry"
    entry["figures"] = json.dumps(finite(outcome.figures), allow_nan=False)
    entry["made_from"] = json.dumps(dict(results.made_from), allow_nan=False, sort_keys=True)
    for one in outcome.pictures:
        _add(entry.create_group(_group_of(one)), one)


def _group_of(one: Picture) -> str:
    """Its name, unless that is one of the file's own."""
    return f"{one.name}_picture" if one.name in ("figures", "made_from") else one.name


def _add(group: h5py.Group, one: Picture) -> None:
    group.attrs.update(NX_class="NXdata", signal="data", axes=["y", "x"], title=one.title, kind=one.kind)
    data = group.create_dataset("data", data=one.values)
    data.attrs["units"] = one.unit
    if one.uncertainty is not None:
        group.create_dataset("data_errors", data=one.uncertainty).attrs["units"] = one.unit
    for name, number, pixel in zip(("y", "x"), one.values.shape, one.pixel_nm, strict=True):
        group.create_dataset(name, data=np.arange(number) * pixel).attrs["units"] = "nm"
    group.attrs["pixel_nm"] = one.pixel_nm


def _picture(group: h5py.Group) -> Picture:
    y, x = (float(one) for one in group.attrs["pixel_nm"])
    return Picture(
        name=group.name.rsplit("/", 1)[-1],
        title=str(group.attrs["title"]),
        values=group["data"][()],
        unit=str(group["data"].attrs["units"]),
        kind=group.attrs["kind"],
        pixel_nm=(y, x),
        uncertainty=group["data_errors"][()] if "data_errors" in group else None,
    )
