"""Row F26: other people's drivers that do not load, are none, or lie, installed as their packages would be."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from devices.conformance import Fails
from devices.conformance.column import column_refuses_what_is_out_of_range
from devices.registry import drivers, open_instrument
from stem4d.errors import DeviceFault
from tests.devices.conforming import simulated, simulated_file

ROOT = Path(__file__).parents[2]
PLUGINS = {
    "no-library": "import no_such_vendor_library\n",
    "no-function": "open_instrument = 'not yet written'\n",
    "old-python": "def open_instrument(file, home)\n    return None\n",
    "ends-the-program": "raise SystemExit('no licence found')\n",
    "liar": "from tests.devices.lying_drivers import open_liar as open_instrument\n",
    "honest": "from tests.devices.conforming import open_simulated as open_instrument\n",
}
"""Modules by the name of their driver."""


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of packages with one driver each, on the path as site-packages are."""
    site = tmp_path / "site"
    site.mkdir()
    for name, text in PLUGINS.items():
        module = "plugin_" + name.replace("-", "_")
        (site / f"{module}.py").write_text(text)
        about = site / f"{module}-1.0.dist-info"
        about.mkdir()
        (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}\nVersion: 1.0\n")
        (about / "entry_points.txt").write_text(f"[nightbeam.devices]\n{name} = {module}:open_instrument\n")
    monkeypatch.syspath_prepend(str(site))
    yield site
    for module in [name for name in sys.modules if name.startswith("plugin_")]:
        del sys.modules[module]


@pytest.mark.usefixtures("installed")
def test_what_does_not_load_is_listed_with_its_reason_and_the_others_work(tmp_path: Path) -> None:
    found = {driver.name: driver for driver in drivers()}
    assert "No module named 'no_such_vendor_library'" in found["no-library"].broken
    assert "is not a function" in found["no-function"].broken
    assert found["old-python"].broken.startswith("SyntaxError")
    assert "no licence found" in found["ends-the-program"].broken
    assert (found["honest"].broken, found["honest"].distribution) == ("", "plugin_honest 1.0")
    assert found["simulator"].broken == ""
    instrument = open_instrument(simulated_file("honest"), tmp_path)
    assert instrument.gate.is_blanked()
    instrument.close()
    for name in ("no-library", "no-function", "old-python", "ends-the-program"):
        with pytest.raises(DeviceFault, match=f"the driver {name} .* cannot be used"):
            open_instrument(simulated_file(name), tmp_path)


@pytest.mark.usefixtures("installed")
def test_what_lies_loads_and_fails_a_check_that_its_author_can_run(tmp_path: Path) -> None:
    found = {driver.name: driver for driver in drivers()}
    assert found["liar"].broken == "", "it can be loaded: only the checks find it out"
    file = simulated_file("liar").model_copy(update={"name": "clips"})
    lying = simulated(tmp_path / "lying", found["liar"].target, file=file)
    with pytest.raises(Fails, match="defocus_nm out of range was not refused; it was taken as"):
        column_refuses_what_is_out_of_range(lying, open_instrument(file, lying.home))
    honest = simulated(tmp_path / "honest", found["honest"].target, file=simulated_file("honest"))
    column_refuses_what_is_out_of_range(honest, open_instrument(honest.file, honest.home))


@pytest.mark.slow
def test_the_doctor_lists_them(installed: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", "from flows.cli import main; main()", "doctor", "--json"],
        env={"PYTHONPATH": f"{installed}:{ROOT}", "NIGHTBEAM_HOME": str(tmp_path / "home"), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    lines = json.loads(done.stdout)
    text = json.dumps(lines)
    assert "no_such_vendor_library" in text
    assert "no licence found" in text
    assert "Traceback" not in done.stderr
