"""Rings by sectors: the departures follow the ellipse that the rings were made with, whatever the grains do."""

import numpy as np
import pytest

from stem4d.calibrate.ring_sectors import ellipse_departure, sector_radii

CENTRE_PX, RADII_PX, DISK_PX = (63.4, 62.8), np.array([26.0, 30.0, 43.0]), 3.7


def rings(ellipticity: float, angle_deg: float, seed: int = 4) -> np.ndarray:
    """Rings of many disks each, uneven in azimuth, on an ellipse, with counting noise."""
    rng = np.random.default_rng(seed)
    y, x = np.indices((128, 128), dtype=float)
    pattern = np.full((128, 128), 0.05)
    for radius in RADII_PX:
        for phi in rng.uniform(0, 2 * np.pi, 400):
            at = radius * (1 + ellipse_departure(np.degrees(np.array([phi])), ellipticity, angle_deg)[0])
            distance = np.hypot(y - CENTRE_PX[0] - at * np.sin(phi), x - CENTRE_PX[1] - at * np.cos(phi))
            pattern += rng.exponential(0.02) / (1 + np.exp((distance - DISK_PX) / 0.3))
    return rng.poisson(pattern * 1000) / 1000


@pytest.mark.parametrize(("ellipticity", "angle_deg"), [(0.0, 0.0), (0.03, 25.0), (0.03, 100.0)])
def test_departures_follow_the_ellipse(ellipticity: float, angle_deg: float) -> None:
    bad = np.zeros((128, 128), bool)
    bad[40, 70] = True
    pattern = rings(ellipticity, angle_deg)
    pattern[40, 70] = 1e4
    found = sector_radii(pattern, bad, CENTRE_PX, RADII_PX, DISK_PX)
    assert len(found.azimuth_deg) == 12
    # A sector of 30 degrees averages the second harmonic by sin(30 deg)/(pi/6) = 0.955.
    expected = 0.955 * ellipse_departure(found.azimuth_deg, ellipticity, angle_deg)
    left = found.departure - expected
    # A hundred grains a sector and the disk's radius over the ring's: 3.7/2/30/sqrt(100) = 0.6 % at worst.
    assert float(np.nanstd(left)) < 0.006
    amplitude = 2 * np.nanmean((found.departure) * np.cos(np.radians(2 * (found.azimuth_deg - angle_deg))))
    # The same over twelve sectors, times sqrt(2): 0.25 %.
    assert amplitude == pytest.approx(0.955 * ellipticity / 2, abs=0.0025)


def test_a_pattern_without_rings_has_no_radii() -> None:
    found = sector_radii(np.zeros((128, 128)), np.zeros((128, 128), bool), CENTRE_PX, RADII_PX, DISK_PX)
    assert np.isnan(found.departure).all()
