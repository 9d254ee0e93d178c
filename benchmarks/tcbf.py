"""Tilt-corrected bright field: time and picture against py4DSTEM's parallax, and how honest its defocus is."""

import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.harness import ROOT, Figure, Peer, peer_python
from benchmarks.tcbf_sets import Known, fresh_atoms, fresh_globules, parallax, told
from stem4d.analyse.method import Array, Given, NotPossible, Outcome
from stem4d.analyse.tcbf.fit import allowed_nm
from stem4d.analyse.tcbf.method import TCBF, TcbfOptions
from tests.stem4d.analyse_world import InMemory

PEER = "py4DSTEM 0.14.18 parallax"
ELECTRONS = 8000.0
"""Per pattern: 2000 e/Å² at steps of 2 Å."""
DOSES = (2e4, 2e3, 2e2)
SEEDS = 4
REPEATS = 3
BORDER = 8
"""Positions at the border that pictures are not compared over: some angles miss them."""
REFERENCE = ROOT.parent / "shared" / "data" / "reference_abtem" / "f_defocus_bio.npz"
THREADS = dict.fromkeys(("OMP_NUM_THREADS", "NUMBA_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "2")


def run() -> Iterator[Figure]:
    """Ratio of times, both codes' errors and pictures, and verdicts over fresh sets."""
    yield from _against_the_peer(parallax())
    yield from _reference()
    yield from _verdicts()


def analysed(given: Given, frames: Array, options: TcbfOptions) -> Outcome | str:
    """The outcome, or why there is none."""
    rows = InMemory(frames)
    try:
        prepared = TCBF.prepare(given, options, rows)
        return TCBF.finish(given, options, prepared, TCBF.part(given, options, rows, prepared, 0, len(frames)))
    except NotPossible as refused:
        return str(refused)


def _against_the_peer(known: Known) -> Iterator[Figure]:
    frames, given = known.counts(ELECTRONS, 1), told(known, 0.1, 2.0)
    options = TcbfOptions()
    with tempfile.TemporaryDirectory() as folder, Peer("parallax", peer_python("py4dstem"), **THREADS) as peer:
        np.save(Path(folder) / "frames.npy", frames)
        analysed(given, frames, options)
        ours, theirs = [], []
        for _ in range(REPEATS):  # in turn, so that both see the same load
            begun = time.perf_counter()
            outcome = analysed(given, frames, options)
            ours.append(time.perf_counter() - begun)
            answer: dict[str, Any] = peer.ask(
                frames=str(Path(folder) / "frames.npy"),
                energy_kev=given.beam_energy_kev,
                step_a=10 * given.scan_step_nm[0],
                mrad_per_pixel=given.mrad_per_pixel,
                to=str(Path(folder) / "made.npz"),
            )
            theirs.append(answer["seconds"])
        with np.load(Path(folder) / "made.npz") as made:
            pictures = {name: made[name] for name in made.files}
    if isinstance(outcome, str):
        raise RuntimeError(outcome)
    true = known.given.defocus_nm or 0.0
    detail = (
        f"64², {answer['angles']} and {outcome.figures['angles']} angles: {min(theirs):.3g} s and {min(ours):.3g} s"
    )
    yield Figure("fit and reconstruction: times py4DSTEM", min(theirs) / min(ours), "", ">= 5", PEER, detail)
    found = float(outcome.figures["defocus_nm"] or 0)
    bound = 100 * allowed_nm(known.given, true) / true
    detail = f"{found:.4g} nm of {true:g}, stated {outcome.figures['defocus_uncertainty_nm']:.2g} nm; {outcome.verdict}"
    yield Figure("error of the defocus", 100 * abs(found / true - 1), "%", f"<= {bound:.3g}", "1 % or DOF/4", detail)
    peers = abs(answer["defocus_nm"])
    yield Figure("error of py4DSTEM's defocus", 100 * abs(peers / true - 1), "%", "", PEER, f"{peers:.4g} nm")
    for name, correction in (("flipped", "flip"), ("Wiener", "wiener")):
        outcome = analysed(given, frames, options.model_copy(update={"correction": correction}))
        assert not isinstance(outcome, str)
        image = next(one.values for one in outcome.pictures if one.name == "corrected")
        theirs_ = abs(_alike(pictures["corrected"], known.phase_rad))
        detail = f"py4DSTEM's {theirs_:.3g}"
        goal = f">= {theirs_:.3f}" if correction == "flip" else ""
        yield Figure(f"correlation with the phase, {name}", _alike(image, known.phase_rad), "", goal, PEER, detail)


def _reference() -> Iterator[Figure]:
    """Set f, made by abTEM; its first axis is taken as y throughout."""
    with np.load(REFERENCE) as data:
        frames = data["counts"]
        middle = frames.shape[-1] // 2 + 0.5 / int(data["binning"])
        given = Given(
            beam_energy_kev=float(data["energy_eV"]) / 1e3,
            convergence_semi_angle_mrad=float(data["semiangle_mrad"]),
            mrad_per_pixel=float(data["mrad_per_px"]),
            scan_step_nm=(float(data["step_A"]) / 10,) * 2,
            origin_px=np.array([middle, middle]),
            bad_pixels=np.zeros(frames.shape[2:], bool),
            scan_rotation_deg=2.0,
            defocus_nm=1300.0,
            uncertainty={"scan_rotation_deg": 3.0},
        )
        true = float(data["defocus_A"]) / 10
    outcome = analysed(given, frames, TcbfOptions())
    if isinstance(outcome, str):
        raise RuntimeError(outcome)
    off = 100 * abs(float(outcome.figures["defocus_nm"] or 0) / true - 1)
    bound = 100 * allowed_nm(given, true) / true
    yield Figure("set f: error of the defocus", off, "%", f"<= {bound:.3g}", "1 % or DOF/4", outcome.reason)


def _verdicts() -> Iterator[Figure]:
    """Over hidden truths; a nominal defocus is up to 20 % off, a rotation up to 5 degrees."""
    count: Counter[str] = Counter()
    notes, pulls = [], []
    for make in (fresh_atoms, fresh_globules):
        for seed in range(SEEDS):
            known = make(seed)
            rng = np.random.default_rng(seed)
            given = told(known, rng.uniform(-0.2, 0.2), rng.uniform(-5, 5))
            for dose in DOSES:
                outcome = analysed(given, known.counts(dose, seed), TcbfOptions())
                note = f"{make.__name__} {seed} {dose:g}: "
                if isinstance(outcome, str):
                    count["refused"] += 1
                    notes.append(note + outcome)
                    continue
                true = known.given.defocus_nm or 0.0
                off = float(outcome.figures["defocus_nm"] or 0) - true
                pulls.append(off / float(outcome.figures["defocus_uncertainty_nm"] or 1))
                right = "right" if abs(off) <= allowed_nm(known.given, true) else "wrong"
                count[f"{right} + {outcome.verdict}"] += 1
                notes.append(f"{note}{right} by {off:.3g} of {true:.4g} nm, {outcome.verdict}: {outcome.reason}")
    print("\n".join(notes))
    told_all = ", ".join(f"{name} {number}" for name, number in sorted(count.items()))
    yield Figure("fresh sets: wrong + good", count["wrong + good"], "", "<= 0", "known truth", told_all)
    for name in ("right + good", "right + doubtful", "wrong + doubtful", "refused"):
        yield Figure(f"fresh sets: {name}", count[name], "", "", "known truth", f"of {2 * SEEDS * len(DOSES)}")
    spread = float(np.sqrt(np.mean(np.square(pulls)))) if pulls else float("nan")
    yield Figure("fresh sets: rms error over stated sigma", spread, "", "<= 1.5", "known truth", f"{len(pulls)} fits")


def _alike(image: Array, phase: Array) -> float:
    if image.shape != phase.shape:
        return float("nan")
    inner = np.isfinite(image)
    inner[:BORDER] = inner[-BORDER:] = False
    inner[:, :BORDER] = inner[:, -BORDER:] = False
    return float(np.corrcoef(image[inner], phase[inner])[0, 1])
