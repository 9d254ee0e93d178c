"""Spot patterns of known orientation: kinematic intensities of a crystal, disks, background and Poisson noise."""

from math import pi

import numpy as np

from stem4d.analyse.method import Given
from stem4d.analyse.orientation.crystal import read_crystal, reflections
from stem4d.optics import wavelength_a

ENERGY_KEV, MRAD_PER_PX, SIDE, ALPHA_MRAD = 200.0, 0.9, 96, 1.8


def cif(name: str, cell: tuple[float, ...], group: str, atoms: list[tuple[str, float, float, float]]) -> str:
    """The text of a CIF."""
    keys = ("length_a", "length_b", "length_c", "angle_alpha", "angle_beta", "angle_gamma")
    lines = [f"data_{name}", *(f"_cell_{key} {value}" for key, value in zip(keys, cell, strict=True))]
    lines += [f"_space_group_name_H-M_alt '{group}'", "loop_", "_atom_site_label", "_atom_site_type_symbol"]
    lines += [f"_atom_site_fract_{axis}" for axis in "xyz"]
    lines += [f"{symbol}{number} {symbol} {x} {y} {z}" for number, (symbol, x, y, z) in enumerate(atoms)]
    return "\n".join(lines) + "\n"


GOLD = cif("Au", (4.0786, 4.0786, 4.0786, 90, 90, 90), "F m -3 m", [("Au", 0, 0, 0)])
TITANIUM = cif("Ti", (2.951, 2.951, 4.684, 90, 90, 120), "P 63/m m c", [("Ti", 1 / 3, 2 / 3, 0.25)])
ALUMINIUM = cif("Al", (4.0495, 4.0495, 4.0495, 90, 90, 90), "F m -3 m", [("Al", 0, 0, 0)])
SILICON = cif("Si", (5.431, 5.431, 5.431, 90, 90, 90), "F d -3 m :1", [("Si", 0, 0, 0)])


def given(scan_rotation_deg: float | None = 0.0, **more: object) -> Given:
    """The geometry of these patterns."""
    middle = (SIDE - 1) / 2
    known = {"origin_px": np.array([middle, middle]), "bad_pixels": np.zeros((SIDE, SIDE), bool)} | more
    return Given(
        beam_energy_kev=ENERGY_KEV,
        convergence_semi_angle_mrad=ALPHA_MRAD,
        mrad_per_pixel=MRAD_PER_PX,
        scan_step_nm=(1.0, 1.0),
        scan_rotation_deg=scan_rotation_deg,
        **known,
    )


def random_rotations(number: int, seed: int) -> np.ndarray:
    """Evenly drawn rotations (n, 3, 3)."""
    q = np.random.default_rng(seed).normal(size=(number, 4))
    w, x, y, z = (q / np.linalg.norm(q, axis=1, keepdims=True)).T
    rows = [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)]
    rows += [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)]
    rows += [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)]
    return np.stack(rows, axis=1).reshape(-1, 3, 3)


def patterns(
    text: str,
    rotations: np.ndarray,
    electrons: float,
    seed: int = 0,
    thickness_a: float | None = None,
    excitation_per_a: float = 0.02,
    to_px: np.ndarray | None = None,
    origin_px: np.ndarray | None = None,
) -> np.ndarray:
    """Frames (n, SIDE, SIDE): a tenth of the electrons beyond the direct beam, a tenth in a broad background.

    Shape factor exp(-(s/w)²), or that of a plate, sinc²(πts), where its thickness is given. ``to_px`` (2, 2) takes
    angles (y, x) [mrad] to the detector.
    """
    rng = np.random.default_rng(seed)
    wavelength = wavelength_a(ENERGY_KEV)
    seen = reflections(read_crystal(text), 0.05, SIDE * MRAD_PER_PX * 1e-3 / wavelength)
    y, x = np.indices((SIDE, SIDE))
    frames = np.zeros((len(rotations), SIDE, SIDE), np.uint16)
    onto = np.eye(2) / MRAD_PER_PX if to_px is None else to_px
    middle = np.full((len(rotations), 2), (SIDE - 1) / 2) if origin_px is None else origin_px
    radius = ALPHA_MRAD / MRAD_PER_PX
    for frame, rotation, origin in zip(frames, rotations, middle, strict=True):
        g = seen.g_per_a @ rotation.T
        s = -(g[:, 2] + wavelength * np.square(g).sum(1) / 2)
        shape = np.exp(-((s / excitation_per_a) ** 2)) if thickness_a is None else np.sinc(thickness_a * s) ** 2
        power = seen.intensity * shape
        at = origin + (g[:, [1, 0]] * wavelength * 1e3) @ onto.T
        image = np.zeros((SIDE, SIDE))
        there = (power > 1e-4 * power.max()) & (np.abs(at - SIDE / 2).max(1) < SIDE / 2 + radius)
        for place, strength in zip(at[there], power[there], strict=True):
            image += strength * np.clip(radius + 0.5 - np.hypot(y - place[0], x - place[1]), 0, 1)
        image *= 0.1 * electrons / max(image.sum(), 1e-12)
        distance = np.hypot(y - origin[0], x - origin[1])
        image += 0.8 * electrons * np.clip(radius + 0.5 - distance, 0, 1) / (pi * radius**2)
        broad = np.exp(-distance / 15)
        image += 0.1 * electrons * broad / broad.sum()
        frame[:] = rng.poisson(image)
    return frames
