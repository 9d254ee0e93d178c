"""The command that judges a recorded file: inspect."""

from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flows.cli.answer import AsJson, Code, command, print_json
from stem4d.errors import BadInput

if TYPE_CHECKING:
    from flows.inspect import Inspection
    from stem4d.detector import DetectorFacts


@command
def inspect(
    file: Annotated[Path, typer.Argument(help="A 4D-STEM file: nightbeam's own, HDF5, .mib, .blo, .dm4, ...")],
    full_scale: Annotated[
        int | None, typer.Option(help="Largest value of the detector's counter, where the file does not say it.")
    ] = None,
    mrad_per_pixel: Annotated[float | None, typer.Option(help="Angle per detector pixel [mrad].")] = None,
    step_nm: Annotated[float | None, typer.Option(help="Scan step [nm].")] = None,
    beam_energy_kev: Annotated[float | None, typer.Option(help="Beam energy [keV].")] = None,
    convergence_semi_angle_mrad: Annotated[float | None, typer.Option(help="Convergence semi-angle [mrad].")] = None,
    defocus_nm: Annotated[float | None, typer.Option(help="Defocus, positive for underfocus [nm].")] = None,
    dwell_us: Annotated[float | None, typer.Option(help="Time in which a frame counts [us].")] = None,
    max_count_rate_hz: Annotated[
        float | None, typer.Option(help="Rate at which a pixel of the detector loses a tenth of its counts [1/s].")
    ] = None,
    detector: Annotated[
        str | None, typer.Option(help="A detector that nightbeam knows (quadro, arina, ...), for what it can count.")
    ] = None,
    counts_per_electron: Annotated[
        float | None, typer.Option(help="What one electron adds to a value of an integrating detector.")
    ] = None,
    mask: Annotated[
        Path | None, typer.Option(help="Bad pixels beside those that are found: a .npy file of the pattern's shape.")
    ] = None,
    as_json: AsJson = False,
) -> Code:
    """Judge any recorded file: saturation, descan, centring, and which analyses it can carry.

    Exits with 0, with 3 where an analysis fails or is doubtful, with 2 where the file cannot be read.

    Example: nightbeam inspect scan.mib --mrad-per-pixel 0.5
    """
    from flows.inspect import inspect_file

    given = {
        "mrad_per_pixel": mrad_per_pixel,
        "scan_step_nm": step_nm,
        "beam_energy_kev": beam_energy_kev,
        "convergence_semi_angle_mrad": convergence_semi_angle_mrad,
        "dwell_time_us": dwell_us,
        "max_count_rate_per_px_hz": max_count_rate_hz,
    }
    _require_positive({**given, "full_scale": full_scale, "counts_per_electron": counts_per_electron})
    if defocus_nm is not None:
        given["defocus_nm"] = _require_finite("--defocus-nm", defocus_nm)
    found = inspect_file(
        file,
        full_scale=full_scale,
        known={name: value for name, value in given.items() if value is not None},
        detector=None if detector is None else _detector(detector),
        counts_per_electron=counts_per_electron,
        mask=mask,
    )
    if as_json:
        print_json(_facts(found))
    else:
        _print(found)
    judged = set(_verdicts(found).values())
    # A file that nothing could be said of is no file that passed.
    return Code.WARNINGS if judged & {"warn", "fail"} or "pass" not in judged else Code.DONE


def _require_finite(field: str, value: float) -> float:
    """A defocus may be negative or zero, and nothing else."""
    if not isfinite(value):
        raise BadInput(field=field, value=value, limit="must be a finite number", unit="nm")
    return value


def _detector(name: str) -> "DetectorFacts":
    from stem4d.catalogue import CATALOGUE

    if name not in CATALOGUE:
        raise BadInput(
            field="--detector",
            value=name,
            limit=f"must be one of {', '.join(sorted(CATALOGUE))}",
            remedy="For any other give --max-count-rate-hz and --full-scale",
        )
    return CATALOGUE[name]


def _require_positive(given: dict[str, float | None]) -> None:
    """Refuse what no microscope has: a length, an angle, an energy or a counter that is not above zero."""
    from flows.inspect_options import OPTIONS

    for name, value in given.items():
        if value is not None and not (isfinite(value) and value > 0):
            raise BadInput(
                field=OPTIONS.get(name, f"--{name.replace('_', '-')}").partition(" ")[0],
                value=value,
                limit="must be a number above 0",
                remedy="Give the value as the instrument's calibration states it, or leave the option out",
            )


def _facts(found: "Inspection") -> dict[str, Any]:
    disk, maps = found.disk, found.maps
    saturated = maps.saturated_px[maps.recorded]
    return {
        "file": str(found.path),
        "kind": found.kind,
        "scan_shape": list(found.scan_shape),
        "detector_shape": list(found.detector_shape),
        "dtype": found.dtype,
        "frames": maps.frames,
        "full_scale": found.full_scale,
        "saturated_px_per_frame": {"lowest": int(saturated.min()), "highest": int(saturated.max())}
        if found.full_scale is not None and saturated.size
        else None,
        "bad_pixels": found.bad_pixels,
        "counts_per_electron": found.counts_per_electron,
        "disk": {
            "found": disk.ok,
            "reason": disk.reason,
            "centre_px": [_finite(value) for value in disk.centre_px],
            "radius_px": _finite(disk.radius_px),
        },
        "metadata": found.metadata,
        "verdicts": _verdicts(found),
        "quality": [one.model_dump(mode="json") for one in found.results],
    }


def _verdicts(found: "Inspection") -> dict[str, str]:
    from stem4d.quality.judge import verdict_by_analysis

    return {analysis: verdict.value for analysis, verdict in verdict_by_analysis(found.results).items()}


def _finite(value: float) -> float | None:
    return value if isfinite(value) else None


def _print(found: "Inspection") -> None:
    shape = " x ".join(str(size) for size in (*found.scan_shape, *found.detector_shape))
    print(f"{found.path}: {shape}, {found.dtype}, {found.maps.frames} frames")
    full_scale = "unknown" if found.full_scale is None else f"{found.full_scale:,}"
    print(f"full scale of the counter: {full_scale}; bad pixels left out: {found.bad_pixels}")
    if found.counts_per_electron is not None:
        print(f"the values are no counts; {found.counts_per_electron:.4g} is taken for one electron")
    disk = found.disk
    if disk.ok:
        print(f"bright-field disk: centre ({disk.centre_px[0]:.2f}, {disk.centre_px[1]:.2f}) px, ", end="")
        print(f"radius {disk.radius_px:.2f} px")
    else:
        print(f"bright-field disk: not found: {disk.reason}")
    print()
    for analysis, verdict in _verdicts(found).items():
        print(f"{verdict:<15} {analysis}")
    print()
    told: dict[tuple[str, str, str], list[str]] = {}
    for one in found.results:
        told.setdefault((one.verdict, one.metric, one.message), []).append(one.analysis or "")
    for (verdict, metric, message), analyses in told.items():
        whose = f" ({', '.join(analyses)})" if any(analyses) else ""
        print(f"{verdict:<15} {metric}{whose}: {message}")
