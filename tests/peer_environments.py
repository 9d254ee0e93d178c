"""Other people's programs, each in an environment of its own, made from its pins when it is missing."""

import subprocess
import sys
from pathlib import Path

ENVIRONMENTS = Path(__file__).parents[1] / ".venvs"


def python_of(pins: Path) -> Path:
    """The interpreter of the environment that a requirements file names, made or brought up to it where needed."""
    home, wanted = ENVIRONMENTS / pins.stem, pins.read_text()
    python, stamp = home / "bin" / "python", home / "pins.txt"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", str(home)], check=True)
    if not stamp.exists() or stamp.read_text() != wanted:
        subprocess.run([str(python), "-m", "pip", "install", "-q", "-r", str(pins)], check=True)
        stamp.write_text(wanted)
    return python
