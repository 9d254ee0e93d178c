"""Nights of visits for the tests of their order and of what fits."""

from math import inf

from hypothesis import strategies as st

from stem4d.order import Mode, Visit

modes = st.builds(
    Mode, st.sampled_from([80.0, 200.0]), st.sampled_from([1.5, 21.4]), st.sampled_from([106.4, 188.6]), st.just("s")
)


@st.composite
def nights(draw: st.DrawFn, most: int, least: int = 1) -> tuple[Visit, ...]:
    """Visits with names of their own; half of the deadlines are such as may be missed."""
    number = draw(st.integers(least, most))
    deadlines = st.one_of(st.just(inf), st.floats(0, 4000 * number))
    return tuple(
        Visit(f"t{i}", draw(modes), draw(st.floats(1, 3000)), draw(st.integers(0, 2)), draw(deadlines))
        for i in range(number)
    )


starts = st.one_of(st.none(), modes)
ratios = st.floats(0.2, 5)
