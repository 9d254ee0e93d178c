"""Beam blanker and column valves over temscript's server. The blanker takes the beam away, and nothing else does."""

from contextlib import suppress
from dataclasses import asdict

from devices.dose_lease import require_owner, require_valid
from devices.temscript.log import BeamLog
from devices.temscript.rest import NoAnswer, Temscript
from stem4d.dose import DoseLease
from stem4d.errors import DeviceFault, NightbeamError

BLANKS = 2
"""How often blanking is tried where no answer comes: twice does no harm, and a watchdog has five seconds."""


class TemscriptGate:
    """The blanker, and the leases that the server knows nothing of."""

    def __init__(self, server: Temscript, log: BeamLog) -> None:
        self._server, self._log = server, log

    def blank(self) -> None:
        """Blank, and see that it is; again does no harm.

        Raises
        ------
        DeviceFault
            Where the server does not answer, or answers that the beam is on.
        """
        for tried in range(BLANKS):
            try:
                self._server.write("beam_blanked", value=True)
                break
            except NoAnswer:
                if tried == BLANKS - 1:
                    raise
        if not self.is_blanked():
            raise DeviceFault("beam gate: asked for beam_blanked = True, it reads back False: THE BEAM MAY STILL BE ON")
        self._log.keep("blank")

    def unblank(self, lease: DoseLease) -> None:
        """Let the beam through; whatever goes wrong on the way, it is blanked again.

        Raises
        ------
        DoseRefused
            For a lease that is expired, older than the newest, or of an owner that another one has followed.
        DeviceFault
            The column valves are closed, the log cannot be written, or from the server.
        """
        with self._log.turn() as standing:
            require_valid(lease, standing.newest_token, standing.newest_owner_token, self._log.monotonic())
            if not self._server.truth("column_valves_open"):
                raise DeviceFault("the column valves are closed: open them at the microscope")
            # Before it is done: an answer that is lost must not leave an exposure that nobody knows of.
            self._log.append("unblank", **asdict(lease))
            try:
                self._server.write("beam_blanked", value=False)
                if self.is_blanked():
                    raise DeviceFault("beam gate: asked for beam_blanked = False, it reads back True")
            except BaseException:
                with suppress(NightbeamError):  # whoever exposes blanks again, and says what is wrong with that
                    self.blank()
                raise

    def is_blanked(self) -> bool:
        """As the microscope reads its blanker."""
        return self._server.truth("beam_blanked")

    def newest_token(self) -> int:
        """Highest token of a lease that the beam was let through for, by whatever process of this host."""
        return self._log.standing().newest_token

    def see_owner(self, owner_token: int) -> int:
        """Refuse the dose leases of owners before this one."""
        require_owner(owner_token, 0)
        with self._log.turn() as standing:
            if owner_token > standing.newest_owner_token:
                self._log.append("owner", owner_token=owner_token)
                return owner_token
        return standing.newest_owner_token


class TemscriptValves:
    """The column valves; a person opens them."""

    def __init__(self, server: Temscript, log: BeamLog) -> None:
        self._server, self._log = server, log

    def close(self) -> None:
        """Close them, and see that they are; again does no harm."""
        self._server.write("column_valves_open", value=False)
        if self._server.truth("column_valves_open"):
            raise DeviceFault("column valves: asked to close, they read back open")
        self._log.keep("valves", closed=True)
