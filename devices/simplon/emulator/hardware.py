"""What the emulated detector is made of: size, pitch, counters, and how fast it reads out."""

from pydantic import Field

from stem4d.model import Count, Positive, Strict


class Hardware(Strict):
    """One detector. The defaults are close to a QUADRO; its rate limit is that of a recorded header (docs)."""

    description: str = "NIGHTBEAM EMULATED QUADRO Si 250K"
    number: str = "E-00-0000"
    x_px: Count = 512
    y_px: Count = 512
    pixel_size_m: Positive = 75e-6
    sensor_material: str = "Si"
    sensor_thickness_m: Positive = 450e-6
    readout_time_s: Positive = 1e-7
    rate_16_bit_hz: Positive = 2250.0
    """Fastest full frames of 16 bit; 8 bit reads out twice as fast, fewer rows in proportion."""
    linear_rate_hz: Positive = 3.825e6
    """Counts per second and pixel up to which the correction holds."""
    roi_modes: tuple[str, ...] = ("disabled", "lines", "merge2x2")
    lowest_rows: int = Field(default=4, ge=2)
    """Fewest rows of the mode ``lines``."""

    def shape(self, roi_mode: str, roi_y_size: int) -> tuple[int, int]:
        """(det_y, det_x) that a region of interest leaves [px]."""
        match roi_mode:
            case "lines":
                return min(roi_y_size, self.y_px), self.x_px
            case "merge2x2":
                return self.y_px // 2, self.x_px // 2
        return self.y_px, self.x_px

    def fastest_frame_s(self, bits: int, rows: int) -> float:
        """Shortest frame time at a readout depth and a number of rows read [s]."""
        return 1 / self.rate_16_bit_hz * (0.5 if bits == 8 else 1.0) * rows / self.y_px

    def longest_single_s(self) -> float:
        """Exposure after which a 16 bit counter could be full, so that sub-frames have to be summed [s]."""
        return 65535 / self.linear_rate_hz
