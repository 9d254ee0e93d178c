"""The optics over temscript's server: held against every limit first, set, and read back value by value."""

from datetime import UTC, datetime
from math import isclose

from devices.limits import one_of, within
from devices.protocols import ColumnSetting, Reading
from devices.temscript.knobs import (
    READ_BACK_TOLERANCE,
    camera_lengths_mm,
    currents_pa,
    focus_nm,
    knobs_of,
)
from devices.temscript.log import BeamLog
from devices.temscript.rest import Temscript
from devices.temscript.settings import TemscriptSettings
from stem4d.errors import DeviceFault, LimitViolation, NotConfirmed
from stem4d.instrument import InstrumentFacts
from stem4d.model import Range

NOTHING = Range(lowest=0.0, highest=0.0)
"""What coils can do that the files do not state."""


class TemscriptColumn:
    """The optics. What the server cannot do, or the files do not state, has to be asked to stay as it is."""

    def __init__(self, server: Temscript, facts: InstrumentFacts, settings: TemscriptSettings, log: BeamLog) -> None:
        self._server, self._facts, self._settings, self._log = server, facts, settings, log
        self._knobs = knobs_of(settings, facts)

    def prepare(self, setting: ColumnSetting) -> ColumnSetting:
        """Set the column and return what it reads back; of coils that are left as they are, what was asked.

        Raises
        ------
        LimitViolation
            Nothing was written.
        NotConfirmed
            For the first value that reads back otherwise by more than a thousandth of it (near zero: 0.01 nm,
            1e-4 mrad): the server clips without a word. What was written before stays.
        DeviceFault
            The microscope is in another mode, or from the server.
        """
        self._within_limits(setting)
        self._in_its_mode()
        self._energy(setting)
        self._log.keep("column", setting=setting.model_dump(mode="json"))
        for knob in self._knobs.values():
            knob.set(self._server, setting)
        # After the last of them: one can have moved another.
        read = {name: knob.confirmed(self._server, setting) for name, knob in self._knobs.items()}
        optics = {
            "beam_energy_kev": self._energy(setting),
            "camera_length_mm": self._indicated(setting),
            "convergence_semi_angle_mrad": read["convergence"][0],
            "defocus_nm": read["focus"][0] - setting.focus_correction_nm,
        }
        coils = {
            field: read[name]
            for field, name in (
                ("stigmator_nm", "stigmator"),
                ("beam_shift_nm", "beam shift"),
                ("diffraction_shift_mrad", "diffraction shift"),
            )
            if name in read
        }
        return setting.model_copy(update={"optics": setting.optics.model_copy(update=optics), **coils})

    def snapshot(self) -> tuple[Reading, ...]:
        """What the server tells now; the focus as the sum of defocus and correction, which is all that it knows."""
        server, now = self._server, datetime.now(UTC)
        said = {
            name: (value, knob.unit)
            for knob in self._knobs.values()
            for name, value in zip(knob.names, knob.read(server), strict=True)
        }
        told = [Reading(name, value, unit, now, "commanded") for name, (value, unit) in said.items()]
        current_pa = currents_pa(self._settings).get(int(said["spot_index"][0]))
        if current_pa is not None:
            told.append(Reading("probe_current_pa", current_pa, "pA", now, "cached"))
        cs_mm = self._settings.spherical_aberration_mm
        return (
            *told,
            Reading("spherical_aberration_mm", cs_mm, "mm", now, "cached"),
            Reading("beam_energy_kev", server.number("voltage"), "keV", now, "measured"),
            Reading("camera_length_mm", server.number("indicated_camera_length") * 1e3, "mm", now, "measured"),
            Reading("instrument_mode", server.text("instrument_mode"), "", now, "measured"),
            Reading("projection_mode", server.text("projection_mode"), "", now, "measured"),
        )

    def normalise(self) -> None:
        """Take the hysteresis out of all lenses; with the beam blanked, as the server answers nobody meanwhile."""
        if not self._server.truth("beam_blanked"):
            raise DeviceFault("column: the lenses are normalised with the beam blanked alone; blank it first")
        self._server.write("normalize", "ALL", self._settings.normalise_timeout_s)

    def _within_limits(self, setting: ColumnSetting) -> None:
        facts, optics = self._facts, setting.optics
        angles = tuple(aperture.convergence_semi_angle_mrad for aperture in facts.apertures)
        one_of("column", "beam_energy_kev", optics.beam_energy_kev, facts.beam_energies_kev, "keV")
        one_of("column", "convergence_semi_angle_mrad", optics.convergence_semi_angle_mrad, angles, "mrad")
        one_of("column", "camera_length_mm", optics.camera_length_mm, facts.camera_lengths_mm, "mm")
        within("column", "probe_current_pa", optics.probe_current_pa, facts.probe_current_pa, "pA")
        currents = tuple(sorted(currents_pa(self._settings).values()))
        one_of("column", "probe_current_pa", optics.probe_current_pa, currents, "pA")
        lengths = tuple(sorted(camera_lengths_mm(self._settings).values()))
        one_of("column", "camera_length_mm", optics.camera_length_mm, lengths, "mm")
        within("column", "defocus_nm", focus_nm(setting), facts.defocus_nm, "nm")
        cs_mm = self._settings.spherical_aberration_mm
        if not isclose(optics.spherical_aberration_mm, cs_mm, rel_tol=READ_BACK_TOLERANCE, abs_tol=1e-6):
            name, limit = "spherical_aberration_mm", f"{cs_mm:g}, which the settings state and temscript cannot change"
            asked = optics.spherical_aberration_mm
            raise LimitViolation(device="column", setting=name, asked=asked, limit=limit, unit="mm")
        for name, unit, values, allowed in (
            ("beam_shift_nm", "nm", setting.beam_shift_nm, facts.beam_shift_nm),
            ("stigmator_nm", "nm", setting.stigmator_nm, facts.stigmator_nm),
            ("diffraction_shift_mrad", "mrad", setting.diffraction_shift_mrad, self._settings.diffraction_shift_mrad),
            ("descan_mrad_per_nm", "mrad/nm", [each for row in setting.descan_mrad_per_nm for each in row], None),
        ):
            for value in values:
                within("column", name, value, allowed or NOTHING, unit)

    def _in_its_mode(self) -> None:
        """Changing a mode changes lenses and shutters that nobody here can see: a person does it."""
        for name in ("instrument_mode", "projection_mode"):
            there, wanted = self._server.text(name), getattr(self._settings, name)
            if there != wanted:
                raise DeviceFault(f"column: {name} is {there} and has to be {wanted}; change it at the microscope")

    def _energy(self, setting: ColumnSetting) -> float:
        asked_kev, there_kev = setting.optics.beam_energy_kev, self._server.number("voltage")
        if not isclose(there_kev, asked_kev, rel_tol=READ_BACK_TOLERANCE):
            limit = f"{there_kev:g} as it stands; the high tension is changed at the microscope"
            raise LimitViolation(device="column", setting="beam_energy_kev", asked=asked_kev, limit=limit, unit="keV")
        return there_kev

    def _indicated(self, setting: ColumnSetting) -> float:
        """What the microscope indicates by now; the index alone can mean another length in another mode."""
        asked_mm, read_mm = setting.optics.camera_length_mm, self._server.number("indicated_camera_length") * 1e3
        if not isclose(read_mm, asked_mm, rel_tol=READ_BACK_TOLERANCE):
            raise NotConfirmed(device="column", setting="camera_length_mm", asked=asked_mm, read=read_mm, unit="mm")
        return read_mm
