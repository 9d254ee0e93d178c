"""The table of what was injected, after the last test."""

import pytest


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """What tests noted under ``fault``, one line each; not seen where several processes share the tests."""
    reports = [report for outcome in ("passed", "failed") for report in terminalreporter.getreports(outcome)]
    lines = [str(value) for report in reports for name, value in report.user_properties if name == "fault"]
    if lines:
        terminalreporter.section("faults that were injected")
    for line in lines:
        terminalreporter.write_line(line)
