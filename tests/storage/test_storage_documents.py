"""Documents: YAML 1.2 types, the caps, and what people are told when a plan is wrong."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field

from stem4d.errors import BadInput
from stem4d.model import Name, Positive, Strict
from storage.documents import load_model
from storage.parse import MAX_BYTES, parse_json, parse_toml, read_document
from storage.units import unit_of
from storage.yaml12 import parse_yaml


def yaml(text: str) -> object:
    return parse_yaml(text, "x.yaml", max_depth=20)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("no", "no"),
        ("on", "on"),
        ("Yes", "Yes"),
        ("true", True),
        ("FALSE", False),
        ("~", None),
        ("", None),
        ("Null", None),
        ("1e-3", 0.001),
        ("1.0e+6", 1e6),
        ("-.5", -0.5),
        ("1.", 1.0),
        (".inf", float("inf")),
        ("-.INF", float("-inf")),
        ("1e400", float("inf")),
        ("012", 12),
        ("0o17", 15),
        ("0x1F", 31),
        ("+5", 5),
        ("1_000", "1_000"),
        ("12:30", "12:30"),
        ("2026-11-22", "2026-11-22"),
        ("'12'", "12"),
        ('"true"', "true"),
        ("!", "refused"),
    ],
)
def test_plain_scalars_are_of_the_yaml_1_2_core(text: str, value: object) -> None:
    if value == "refused":
        with pytest.raises(BadInput, match="tags are not allowed"):
            yaml(f"a: {text} x")
        return
    got = yaml(f"a: {text}")
    assert got == {"a": value}
    assert type(got["a"]) is type(value)  # type: ignore[index]


TEXT = st.text(st.characters(codec="utf-8", max_codepoint=0xFFFF), max_size=20)  # JSON writes the others as pairs
PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**30), 10**30)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=12,
)


@given(data=PLAIN)
def test_json_is_yaml(data: object) -> None:
    assert yaml(json.dumps(data)) == data


BOMB = "a: &a [x]\n" + "".join(
    f"{b}: &{b} [{','.join([f'*{a}'] * 9)}]\n" for a, b in zip("abcdefg", "bcdefgh", strict=True)
)
REFUSED = [
    (".yaml", BOMB, "x.yaml:1:4", "anchors are not allowed"),
    (".yaml", "a: *b", "x.yaml:1:4", "aliases are not allowed"),
    (".yaml", "a: !!python/object:os.system x", "x.yaml:1:4", "tags are not allowed"),
    (".yaml", "a: 1\nb:\n  c: 1\n  c: 2", "x.yaml:4:3", "a key may be given once"),
    (".yaml", "1: a", "x.yaml:1:1", "a key has to be text"),
    (".yaml", "a: 1\n---\nb: 1", "x.yaml:2:1", "one document"),
    (".yaml", "[" * 100_000, "x.yaml:1:21", "at most 20 levels"),
    (".yaml", "- " * 40 + "x", "x.yaml:1:41", "at most 20 levels"),
    (".yaml", "a: " + "9" * 5000, "x.yaml:1:4", "at most 100 characters"),
    (".yaml", "a: [1, 2", "x.yaml:2:1", "not well-formed YAML"),
    (".yaml", "a: \x07", "x.yaml", "not well-formed YAML"),
    (".yaml", b"a: 1\nb: \xff", "x.yaml:2", "UTF-8"),
    (".yaml", "#" * (MAX_BYTES + 1), "x.yaml", "at most 262,144 B"),
    (".toml", "a = 1\na = 2", "x.toml", "not well-formed TOML"),
    (".toml", "a" + ".a" * 100_000 + " = 1", "x.toml", "at most 20 levels"),
    (".toml", "x = {a = '''\n''', " + '"b".' * 50_000 + "b = 1}", "x.toml", "at most 20 levels"),
    (".toml", "a = " + "[" * 100_000, "x.toml", "within reason"),
    (".toml", "a = " + "[" * 30 + "]" * 30, "x.toml", "at most 20 levels"),
    (".toml", "a = " + "9" * 5000, "x.toml", "within reason"),
    (".json", '{"a": 1, "a": 2}', "x.json", "a key may be given once"),
    (".json", '{"a": NaN}', "x.json", "finite"),
    (".json", "[" * 100_000, "x.json", "within reason"),
    (".json", "[" * 30 + "]" * 30, "x.json", "at most 20 levels"),
    (".json", "{,}", "x.json:1:2", "not well-formed JSON"),
    (".txt", "a", "x.txt", "has to end in .yaml"),
]


@pytest.mark.parametrize(("suffix", "content", "field", "limit"), REFUSED, ids=[f"{r[0]} {r[3]}" for r in REFUSED])
def test_bombs_and_mistakes_are_refused_where_they_stand(
    tmp_path: Path, suffix: str, content: str | bytes, field: str, limit: str
) -> None:
    path = tmp_path / f"x{suffix}"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    started = time.process_time()
    with pytest.raises(BadInput) as refused:
        read_document(path)
    # 0.1 s is the promise; three times that for a machine that does other things, too.
    assert time.process_time() - started < 0.3
    assert refused.value.field == field
    assert limit in refused.value.limit
    assert "\n" not in str(refused.value)


def test_a_text_with_a_colon_is_asked_for_in_quotes(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_text("name: n\ntitle: gold: first look\n")
    with pytest.raises(BadInput, match=r"x.yaml:2:12: .*Put text with a colon in quotes"):
        read_document(path)


def test_missing_files_and_folders_are_named(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="there is no such file"):
        read_document(tmp_path / "x.yaml")
    (tmp_path / "y.yaml").mkdir()
    with pytest.raises(BadInput, match="is not an ordinary file"):
        read_document(tmp_path / "y.yaml")


def test_toml_and_json_give_the_same_plain_data() -> None:
    assert parse_toml('d = 2026-11-22\nt = 12:30:00\n"a.b".c = [1.5]', "x") == {
        "d": "2026-11-22",
        "t": "12:30:00",
        "a.b": {"c": [1.5]},
    }
    assert parse_json('{"a": [1, 1.5, null, "x"]}', "x") == {"a": [1, 1.5, None, "x"]}


class Square(Strict):
    kind: Literal["square"]
    side_nm: Positive


class Circle(Strict):
    kind: Literal["circle"]
    radius_nm: Positive
    centre_px: tuple[float, float] = (0.0, 0.0)


class Sketch(Strict):
    format_version: Literal[1]
    name: Name
    shapes: Annotated[tuple[Annotated[Square | Circle, Field(discriminator="kind")], ...], Field(min_length=1)]
    visible: bool = True
    layers: Annotated[int, Field(ge=1, le=9)] = 1
    owner_token: str = Field(default="", max_length=3)


SKETCH = """
format_version: 1
name: a
shapes: [{kind: square, side_nm: 3}, {kind: circle, radius_nm: 2, centre_px: [1, 2.5]}]
"""


@pytest.fixture
def sketch(tmp_path: Path) -> Callable[..., Sketch]:
    def load(*changes: str) -> Sketch:
        (tmp_path / "s.yaml").write_text(SKETCH)
        return load_model(tmp_path / "s.yaml", Sketch, changes)

    return load


def test_lists_stand_for_tuples_and_changes_apply(sketch: Callable[..., Sketch]) -> None:
    read = sketch("shapes.1.radius_nm=1e1", "visible=false", "layers=3")
    assert read.shapes[1] == Circle(kind="circle", radius_nm=10.0, centre_px=(1.0, 2.5))
    assert (read.visible, read.layers) == (False, 3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("shapes.0.side=1", "shapes[0].side: got 1; is not a known name. Did you mean side_nm?"),
        (
            "zzz=1",
            "zzz: got 1; is not a known name. Known here: format_version, layers, name, owner_token, shapes, visible",
        ),
        ("shapes.0.side_nm=-1", "shapes[0].side_nm: got -1 nm; has to be more than 0. Raise it"),
        ("shapes.0.side_nm=.nan", "shapes[0].side_nm: got nan nm; has to be a finite number"),
        ("shapes.0.side_nm=1e400", "shapes[0].side_nm: got inf nm; has to be a finite number"),
        ("shapes.0.side_nm='1e400'", "shapes[0].side_nm: got '1e400' nm; has to be a number. Write a number without"),
        ("shapes.0.side_nm=true", "shapes[0].side_nm: got True nm; has to be a number"),
        ("shapes.1.centre_px=[1]", "shapes[1].centre_px[1]: got 'nothing' px; is required. Add shapes[1].centre_px[1]"),
        ("shapes.0.kind=star", "shapes[0].kind: got 'star'; has to be one of 'square', 'circle'"),
        ("shapes.0={side_nm: 1}", "shapes[0].kind: got 'nothing'; is required"),
        ("shapes=[]", "shapes: got []; needs at least 1 items"),
        ("visible=yes", "visible: got 'yes'; has to be true or false"),
        ("layers=1.5", "layers: got 1.5; has to be a whole number"),
        ("layers=10", "layers: got 10; has to be at most 9. Lower it"),
        ("name=../../etc/x", "name: got '../../etc/x'; has to be a name of letters, digits, dot, dash and underscore"),
        ("owner_token=hunter2", "owner_token: got '(hidden)'; has to have at most 3 characters"),
        ("format_version=2", "format_version: got 2; up to 1 is understood. Install a nightbeam newer than"),
    ],
)
def test_a_mistake_names_field_value_limit_unit_and_remedy(
    sketch: Callable[..., Sketch], change: str, message: str
) -> None:
    with pytest.raises(BadInput) as refused:
        sketch(change)
    assert str(refused.value).startswith(f"s.yaml: {message}")


def test_several_mistakes_come_in_one_message(sketch: Callable[..., Sketch]) -> None:
    with pytest.raises(BadInput) as refused:
        sketch("layers=0", "visible=3", "shapes.0.side_nm=0", "shapes.1.radius_nm=0", "name=''", "zz=1")
    text = str(refused.value)
    assert text.count("; also ") == 4
    assert text.endswith("2 more")


@pytest.mark.parametrize("change", ["layers", "=1", "shapes.7.side_nm=1", "shapes.x=1", "name.first=x", ".a=1"])
def test_a_change_that_leads_nowhere_is_refused(sketch: Callable[..., Sketch], change: str) -> None:
    with pytest.raises(BadInput, match="change: "):
        sketch(change)


def test_only_a_mapping_makes_a_model(tmp_path: Path) -> None:
    (tmp_path / "s.yaml").write_text("- 1")
    with pytest.raises(BadInput, match="has to be a mapping"):
        load_model(tmp_path / "s.yaml", Sketch)


@pytest.mark.parametrize(
    ("name", "unit"),
    [
        ("optics.defocus_nm", "nm"),
        ("fluence_e_per_a2", "e/Å²"),
        ("mrad_per_pixel", "mrad"),
        ("max_drift_nm_per_min", "nm/min"),
        ("target_d_a", "Å"),
        ("pattern_offset_px", "px"),
        ("a", ""),
        ("name", ""),
    ],
)
def test_names_carry_their_unit(name: str, unit: str) -> None:
    assert unit_of(name) == unit
