"""Writes a plan as a file that people read and `load_model` reads again."""

import os
from collections.abc import Iterable
from pathlib import Path
from textwrap import wrap

import yaml
from pydantic import BaseModel

from stem4d.errors import BadInput
from storage.disk import replace_text, require_absent

COMMENT_WIDTH = 110


def require_writable(path: Path, *, replace: bool) -> None:
    """Raise ``BadInput`` where a file of this name cannot be written, or exists and is not to be replaced."""
    if path.suffix.lower() not in (".yaml", ".yml"):
        raise BadInput(field="path", value=str(path), limit="a plan's name ends in .yaml")
    if not replace:
        require_absent(path)
    if not path.parent.is_dir() or not os.access(path.parent, os.W_OK):
        raise BadInput(field="path", value=str(path), limit="its folder does not exist or may not be written to")


def save_document(path: Path, model: BaseModel, comments: Iterable[str], *, replace: bool = False) -> None:
    """Write a model as YAML, comments first; what is at its default is left out.

    Raises
    ------
    BadInput
        The file exists and ``replace`` is not set, or it cannot be written.
    """
    require_writable(path, replace=replace)
    lines = [f"# {line}" for comment in comments for line in wrap(comment, COMMENT_WIDTH)]
    document = model.model_dump(mode="json", exclude_defaults=True)
    text = "\n".join([*lines, yaml.safe_dump(document, sort_keys=False, allow_unicode=True, default_flow_style=None)])
    try:
        replace_text(path, text)
    except OSError as error:
        raise BadInput(field="path", value=str(path), limit=f"cannot be written: {error.strerror}") from None
