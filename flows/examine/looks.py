"""Every look, in the order in which a person would mend what they find."""

from flows.examine.line import Look
from flows.examine.machine import clock, disk
from flows.examine.record import database, left_open, outboxes
from flows.examine.software import drivers_known, modules, versions
from flows.examine.unattended import maintenance, messages, prefect_server, watchdog

LOOKS: tuple[Look, ...] = (
    versions,
    modules,
    drivers_known,
    disk,
    clock,
    database,
    outboxes,
    left_open,
    prefect_server,
    watchdog,
    messages,
    maintenance,
)
