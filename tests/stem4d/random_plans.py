"""Hypothesis strategies for any plan that the vocabulary allows, each decade as likely as another."""

from operator import neg
from typing import Any

from hypothesis import strategies as st


def span(low: float, high: float) -> st.SearchStrategy[float]:
    """Every decade is as likely as another; the ends themselves come up too."""
    exponent = st.floats(0, 1).map(lambda part: low * (high / low) ** part)
    return st.one_of(exponent, st.sampled_from([low, high])).map(lambda value: min(max(value, low), high))


def maybe(strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.one_of(st.none(), strategy)


period, length, share = span(0.01, 1e5), span(1e-3, 1e7), span(1e-9, 1)
detectors = st.lists(
    st.tuples(span(1e-6, 400), span(1.001, 2.5)).map(
        lambda pair: {"name": "d", "inner_mrad": pair[0], "outer_mrad": pair[0] * pair[1]}
    ),
    min_size=1,
    max_size=3,
)
ANALYSIS_OF: dict[str, dict[str, st.SearchStrategy[Any]]] = {
    "virtual": {"detectors": detectors, "target_d_a": maybe(period), "highest_angle_mrad": maybe(span(1e-6, 1e3))},
    "com": {"target_d_a": period, "smallest_deflection_mrad": maybe(span(1e-6, 1e3))},
    "strain": {
        "reflection_d_a": period,
        "target_strain": share,
        "smallest_feature_nm": length,
        "reference": st.sampled_from(["region", "absolute"]),
        "lattice_a_nm": maybe(span(0.01, 1e4)),
        "lattice_b_nm": maybe(span(0.01, 1e4)),
        "lattice_angle_deg": maybe(span(20, 160)),
        "reference_region": maybe(st.just([0, 1, 2, 3])),
        "accept_disk_overlap": st.booleans(),
        "origin": st.sampled_from(["per_pattern", "fixed"]),
    },
    "orientation": {
        "reflection_d_a": period,
        "neighbour_d_a": maybe(period),
        "smallest_feature_nm": length,
        "crystal_cif": maybe(st.just("data_crystal")),
        "shape": st.sampled_from(["gaussian", "plate"]),
        "excitation_per_a": maybe(span(1e-4, 0.2)),
    },
    "tcbf": {"target_d_a": period, "upsampling": span(1, 1e3)},
    "ptychography": {
        "target_d_a": period,
        "model": st.sampled_from(["single_slice", "multislice"]),
        "slice_thickness_nm": length,
        "probe_modes": st.integers(1, 12),
        "affine_refinement": st.booleans(),
        "iterations": st.integers(2, 1000),
        "reconstruct": st.sampled_from(["at_end", "by_command"]),
        "max_reconstruction_min": span(1e-3, 1440),
    },
}


def _fitting(analysis: dict[str, Any]) -> dict[str, Any]:
    """Without what belongs to the other kind of reference."""
    lattice = ("lattice_a_nm", "lattice_b_nm", "lattice_angle_deg")
    absolute = analysis.get("reference") == "absolute"
    if absolute and analysis["lattice_a_nm"] is not None:
        lattice = ()
    other = (*lattice, *(["reference_region"] if absolute else []))
    return {name: None if name in other else value for name, value in analysis.items()}


one_analysis = st.one_of(
    [st.fixed_dictionaries({"kind": st.just(kind), **fields}) for kind, fields in ANALYSIS_OF.items()]
).map(_fitting)
documents = st.fixed_dictionaries(
    {
        "format_version": st.just(1),
        "name": st.just("random"),
        "sample": st.fixed_dictionaries(
            {
                "name": st.just("s"),
                "area": st.just("a"),
                "sensitivity": st.sampled_from(["vitrified", "mof_cof", "robust", "battery_oxide"]),
                "thickness_nm": length,
                "height_variation_nm": st.one_of(st.just(0), length),
                "fluence_budget_e_per_a2": span(1e-6, 1e15),
                "imaging": maybe(
                    st.fixed_dictionaries(
                        {
                            "contrast": share,
                            "signal_to_noise": span(1e-3, 1e6),
                            "repeats": span(1, 1e15),
                            "detective_quantum_efficiency": share,
                        }
                    )
                ),
            }
        ),
        "analyses": st.lists(one_analysis, min_size=1, max_size=2),
        "optics": st.fixed_dictionaries(
            {
                "beam_energy_kev": span(10, 1500),
                "convergence_semi_angle_mrad": span(1e-3, 150),
                "defocus_nm": st.floats(-1e5, 1e5),
                "spherical_aberration_mm": st.one_of(st.just(0), span(1e-6, 1e3)),
                "probe_current_pa": span(1e-6, 1e6),
                "camera_length_mm": span(0.1, 1e5),
            }
        ),
        "scan": st.fixed_dictionaries(
            {
                "shape": st.tuples(st.integers(1, 30000), st.integers(1, 30000)),
                "step_nm": span(1e-4, 1e4),
                "flyback_us": st.one_of(st.just(0), span(1e-3, 1e7)),
                "flyback_blanked": st.booleans(),
                "required_field_nm": maybe(st.tuples(length, length)),
            }
        ),
        "exposure": st.one_of(
            st.fixed_dictionaries(
                {
                    "dwell_time_us": span(1e-3, 1e7),
                    "passes": st.integers(1, 1000),
                    "time_available_min": maybe(span(1e-6, 1e5)),
                }
            ),
            span(1e-2, 1e7).map(lambda dwell: {"dwell_time_us": dwell, "exposure_time_us": dwell / 10}),
        ),
        "detector": st.fixed_dictionaries(
            {
                "name": st.sampled_from(["arina", "other"]),
                "shape": st.tuples(st.integers(4, 8192), st.integers(4, 8192)),
                "pixel_pitch_um": span(0.01, 1e4),
                "bit_depth": st.integers(1, 32),
                "mrad_per_pixel": maybe(span(1e-6, 100)),
                "pattern_offset_px": st.tuples(st.floats(-8192, 8192), st.floats(-8192, 8192)),
            }
        ),
    }
)
known = st.dictionaries(
    st.sampled_from(["mrad_per_pixel", "ellipticity", "scan_step", "defocus", "descan", "convergence_semi_angle"]),
    st.tuples(st.one_of(st.just(0), span(1e-6, 1e6), span(1e-6, 1e6).map(neg)), st.one_of(st.just(0), span(1e-9, 1e6))),
)
