"""Memory: formulas against a count of live tensors, peaks in fresh processes under a budget, and the command."""

import json
import sys

import pytest
import torch

from optimizers.core import SecondOrder
from optimizers.core.operators import Dense, Gram, cheapest
from suites.harness.measure.limits import available_bytes
from suites.harness.measure.live_bytes import LiveBytes, peak_state_bytes, state_bytes
from suites.harness.memory.case import Case, Row
from suites.harness.memory.footprint import predict
from suites.harness.memory.formulas import USUAL, Kind
from suites.harness.memory.ledger import Footprint, Ledger
from suites.harness.memory.peak import asked_bytes, measure, noise_step
from suites.harness.records.beside import PeakMeasured
from suites.harness.records.config import read_toml
from suites.harness.units import parse_bytes, shown_bytes

FORMS = ("exact", "factor", "gram", "rank_one", "auto")
SPECS = (
    "sgd",
    "ea_cg[tolerance=1e-9]",  # no solve ends after one iteration, which would hold less
    "ea_cg[gamma=0,tolerance=1e-9]",
    "fisher+ea_cg[tolerance=1e-9]",
    "gauss_newton+ea_cg[tolerance=1e-9]",
    "ea_cg[tolerance=1e-9,factor=full]",
    "fisher+ea_cg[tolerance=1e-9,factor=full]",
    "pch1+kfi",
    "kfac[labels=sampled]",
    "kfac[joint_bias=True]",
    "kfac[labels=sampled,decay=0.9,momentum=0.9,kl_clip=0.01]",
    "kfac[inverse=factor,inverse_interval=2]",
    "kfac[quadratic=True,damping_interval=1]",
    "kfac[labels=sampled,decay=0.9,inverse_interval=2,joint_bias=True,quadratic=True,damping_interval=3]",
    "ekfac",
    "ekfac[labels=sampled]",
    "ekfac[interval=2]",
    "ekfac[labels=sampled,interval=2,decay=0.9]",
    *(f"{name}[inverse={form}]" for name in ("kfac", "kfra") for form in FORMS),
)
NETS = (  # each makes another part the largest of a phase
    ((300, 200, 150, 10), 64, "float32"),
    ((1000, 100, 10), 50, "float64"),
    ((64, 300, 300, 10), 500, "float32"),
    ((200, 150, 40, 120), 30, "float32"),
    ((4, 100, *[4] * 30), 2, "float64"),  # CG's own vectors are most of what EA-CG holds
    ((6, 5, 200), 4, "float64"),  # p p^T of many classes; no factor is padded
    ((10, 300, 8, 8), 100, "float64"),
    ((40, 300, 20), 3, "float64"),  # two layers of factors in one padded block
    ((50, 6, 400), 300, "float64"),  # gradients are cheaper than Gram matrices
    ((100, 100), 60, "float64"),  # Gram matrices of the gradient's norm
    ((5, 10, 128), 1000, "float64"),
    ((340, 256), 20, "float64"),  # a factor solved for many right sides
    ((530, 520, 512), 300, "float64"),  # factors that are factorized by blocks
    ((400, 520, 200), 500, "float64"),  # a gradient that is solved in the space of the batch
    ((48, 44, 42), 40, "float64"),  # the systems of a small batch
    ((256, 300), 140, "float64"),  # inverses of a single block for many right sides
)
PARTS = {
    *("parameters", "state", "activations", "gradients", "curvature"),
    *("inverse", "directions", "workspace", "library"),
}
USERS_OWN = '''"""A composition of the package's parts."""
from optimizers.core import CURVATURES, SOLVERS, Params, SecondOrder


class Own(SecondOrder):
    def __init__(self, params: Params, lr: float = 0.1) -> None:
        parts = {"curvature": CURVATURES["pch1"], "solver": SOLVERS["kfi"]}
        super().__init__(params, lr=lr, **parts, damping=0.01, inverse="gram")
'''
STEPS_OTHERWISE = '''"""Kills its process."""
import os, signal
from optimizers.core import TapeOptimizer


class Other(TapeOptimizer):
    def __init__(self, params, lr: float = 0.1) -> None:
        super().__init__(params, {"lr": lr})

    def step(self, tape) -> None:
        os.kill(os.getpid(), signal.SIGKILL)
'''
linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="peaks on a CPU are read from Linux's /proc")


def _counted(spec, sizes, batch, dtype, kind=USUAL):
    """The peak of each phase of the second step, or of the third if what lasts two steps is renewed in it, in bytes."""
    peaks, phase = {}, None

    def begins(next_phase):
        nonlocal phase
        if phase is not None:
            peaks[phase] = live.peak
        phase, live.peak = next_phase, live.current

    with LiveBytes() as live:
        step = noise_step(spec, sizes, batch, dtype, kind=kind)
        step.watch(begins)
        for _ in range(3 if "interval=2" in spec else 2):
            step()
    return peaks


def _predicted(spec, sizes, batch, dtype="float32", **options):
    footprint = predict(spec, sizes, batch, dtype, **options)
    assert footprint is not None
    return footprint


@pytest.mark.parametrize(("sizes", "batch", "dtype"), NETS, ids=lambda value: str(value)[:20])
@pytest.mark.parametrize("spec", SPECS)
def test_the_formulas_agree_with_a_count_of_live_tensors(spec, sizes, batch, dtype):
    """In every phase, but for labels, which are integers, and a few numbers for each layer."""
    predicted, counted = _predicted(spec, sizes, batch, dtype, library=False), _counted(spec, sizes, batch, dtype)
    assert set(predicted.phases) == set(counted)
    width, labels = {"float32": 4, "float64": 8}[dtype], 8 * batch * (2 if "sampled" in spec else 1)
    for phase, parts in predicted.phases.items():
        missing = counted[phase] - sum(parts.values())
        assert 0 <= missing <= labels + 75 * (len(sizes) - 1) * width, phase
        assert set(parts) <= PARTS


@pytest.mark.parametrize("max_iter", [300, 400])
def test_the_formulas_know_when_a_gram_matrix_is_formed_for_its_products(max_iter):
    """400 iterations on a G of 500 from 300 rows are worth it, 300 are not."""
    test_the_formulas_agree_with_a_count_of_live_tensors(
        f"fisher+ea_cg[tolerance=1e-9,max_iter={max_iter}]", (20, 500, 10), 300, "float64"
    )
    G = Gram(torch.zeros(300, 500))
    assert isinstance(cheapest(G, products=2 * max_iter), Dense if max_iter == 400 else Gram)


def test_no_more_is_let_go_than_is_held():
    ledger = Ledger(4, None, library=False)
    ledger.hold(gradients=5)
    with pytest.raises(ValueError, match="gradients: 6 numbers let go, 5 held"):
        ledger.let_go(gradients=6)


def test_what_a_network_is_trained_for_in_words():
    assert str(Kind()) == "sigmoid, cross-entropy"
    assert str(Kind("bernoulli", ("tanh", "linear", "tanh"))) == "tanh-linear-tanh, bernoulli"


@pytest.mark.parametrize(
    ("sizes", "batch", "kind"),
    [
        ((60, 40, 10, 40, 60), 30, Kind("bernoulli", ("tanh", "linear", "tanh"))),  # an autoencoder
        ((100, 40, 6, 40, 100), 300, Kind("bernoulli", ("sigmoid", "linear", "sigmoid"))),
        ((6, 5, 200), 40, Kind("bernoulli", "relu")),
        ((8, 5, 8), 100, Kind("squared-error", "linear")),
        ((300, 100, 30), 64, Kind("squared-error", "tanh")),
        ((4, 3, 50), 1000, Kind("bernoulli", "tanh")),  # the drawn targets are most of a phase
        ((4, 3, 50), 1000, Kind("squared-error", "tanh")),
    ],
    ids=str,
)
@pytest.mark.parametrize(
    "spec",
    [
        "sgd",
        "kfra",
        "kfra[inverse=factor]",
        "ea_cg[tolerance=1e-9]",
        "ea_cg[tolerance=1e-9,factor=full]",
        "kfac",
        "kfac[labels=sampled]",
        "kfac[quadratic=True,damping_interval=1]",
    ],
)
def test_the_formulas_know_vectors(spec, sizes, batch, kind):
    """Diagonal Hessians, targets that are the inputs, and hidden layers whose activation is their pre-activation."""
    predicted = _predicted(spec, sizes, batch, "float64", library=False, kind=kind)
    counted = _counted(spec, sizes, batch, "float64", kind)
    for phase, parts in predicted.phases.items():
        assert 0 <= counted[phase] - sum(parts.values()) <= 8 * 75 * (len(sizes) - 1), phase


def test_the_hessian_of_many_classes_is_most_of_a_step():
    """E[p p^T] and diag(E[p]) beside their difference, [C, C] each: no other moment of the step holds as much."""
    assert _predicted("ea_cg", (6, 5, 200), 4, "float64", library=False).peak_phase == "curvature"


def test_parts_add_up_and_the_paper_s_factor_is_there():
    """The factor of the first ImageNet-10 layer and its Cholesky factor take 2 x 90.6 GB."""
    footprint = _predicted("kfra[inverse=factor]", Case.network, 100)
    assert footprint.peak_phase == "solve"
    assert footprint.parts["inverse"] == pytest.approx(2 * 4 * 150528**2, rel=1e-3)  # and the corners of its blocks
    assert sum(footprint.parts.values()) == footprint.peak_bytes
    assert set(footprint.phases) == {"forward_backward", "curvature", "solve", "update"}


def test_auto_is_predicted_as_what_the_budget_leaves():
    sizes, batch = (3000, 64, 10), 20
    factor, rank_one = (_predicted(f"kfra[inverse={form}]", sizes, batch) for form in ("factor", "rank_one"))
    auto = {budget: _predicted("kfra[inverse=auto]", sizes, batch, budget_bytes=budget) for budget in (10**9, 10**7)}
    assert auto[10**9] == factor
    assert auto[10**7].peak_bytes == pytest.approx(rank_one.peak_bytes, rel=0.15)  # h / B was there when A failed
    assert 4 * 3000**2 < _predicted("kfra[inverse=auto]", sizes, batch, budget_bytes=50 * 10**6).peak_bytes < 50 * 10**6
    least = _predicted("kfra[inverse=auto]", sizes, batch, budget_bytes=1)
    assert least.peak_bytes == pytest.approx(rank_one.peak_bytes, abs=100)


def test_a_library_s_copy_of_a_factor_is_counted_where_it_is_made():
    """``cholesky_solve`` copies it; a CPU that solves by blocks, and a GPU that solves with inverses, do not. Of two
    factors, that at the peak counts.
    """
    extra = {
        (device, outputs): _predicted("kfac[inverse=factor]", (500, outputs), 20, device=device).parts.get("library", 0)
        for device, outputs in (("cpu", 10), ("cpu", 400), ("cuda", 400), ("cuda", 600))
    }
    assert extra == {("cpu", 10): 4 * 500**2, ("cpu", 400): 0, ("cuda", 400): 0, ("cuda", 600): 4 * 600**2}


@pytest.mark.parametrize(
    ("spec", "sizes", "batch", "inverse", "library"),
    [
        # all are 20 x 20: A and twice G of two layers, and their inverses
        ("kfac", (64, 32, 10), 20, 2 * 6 * 20**2, 0),
        # 64 x 64 and 32 x 32, twice 32 x 32, twice 10 x 10: padded to the largest, and inverted
        ("kfac", (64, 32, 10), 100, 2 * 6 * 64**2, 0),
        ("kfra", (64, 32, 10), 20, 2 * 6 * 32**2, 0),  # A in the space of the batch
        # 10 x 10 with A of 100 x 100; then twice 150 x 150, too large to be padded, and inverted
        ("kfra", (200, 150, 10), 100, 4 * 100**2 + 2 * 2 * 150**2, 0),
        # twice 10 x 10; A of 200 x 200; then twice 150 x 150, whose inverses are not there any more at the peak
        ("kfac", (200, 150, 10), 400, 2 * 10**2 + 200**2 + 2 * 150**2, 0),
        # 10 x 10, of the layer whose outputs and of that whose inputs are 10; then three of 200 x 200, and inverted
        ("kfac", (300, 10, 250), 200, 3 * 10**2 + 2 * 3 * 200**2, 0),
        # 10 x 10; A of 201 x 201 by itself, which cholesky_solve copies
        ("kfac[joint_bias=True]", (200, 150, 10), 400, 10**2 + 201**2, 201**2),
        # A of 10 x 10; twice 512 x 512, the largest that is inverted
        ("kfac", (10, 512), 600, 10**2 + 2 * 2 * 512**2, 0),
        ("kfac", (10, 513), 600, 10**2 + 2 * 513**2, 513**2),
        # A of 300 x 300 by itself and I, which becomes its inverse and is state; cholesky_solve copies the factor
        ("kfac[inverse=factor,inverse_interval=2]", (300, 10), 600, 300**2, 300**2),
    ],
)
def test_a_gpu_s_batches_are_counted_by_hand(spec, sizes, batch, inverse, library):
    """It inverts what it factorizes at once, and pads what is small. All is let go before the update."""
    predicted = _predicted(spec, sizes, batch, device="cuda")
    solve = predicted.phases["solve"]
    assert (solve["inverse"], solve.get("library", 0)) == (4 * inverse, 4 * library)
    assert "inverse" not in predicted.phases["update"]


@pytest.mark.parametrize(
    ("sizes", "batch", "right_sides"),
    [
        ((400, 520, 200), 500, 500 * 400),  # h, with G in the space of the batch
        ((300, 10, 200), 20, 200 * 10),  # of the second layer, with A of 10 x 10
        ((600, 700), 512, 512 * 700),  # the largest that are inverted
    ],
)
def test_a_gpu_solves_with_inverses_what_it_factorized_at_once(sizes, batch, right_sides):
    """The right sides, L^-1 of them, and the solution."""
    assert _predicted("kfac", sizes, batch, device="cuda").phases["solve"]["workspace"] == 4 * 3 * right_sides


@pytest.mark.parametrize("batch", [20, 100])
def test_a_gpu_factorizes_before_it_has_a_direction(batch):
    """All at once, in a small batch as in others."""
    assert "directions" not in _predicted("kfac", (64, 32, 10), batch, device="cuda").phases["solve"]


@pytest.mark.parametrize(
    ("spec", "inverse", "workspace", "library"),
    [
        # twice G and once A of two layers; 1 / B, the solution for the biases, and LAPACK's copy of their factors
        ("kfac", 3 * 2 * 40**2, 2 * 2 * 40, 2 * 40**2),
        # G and A, and their product; (h, 1)
        ("kfac[joint_bias=True]", 3 * 2 * 40**2, 40 * (49 + 45), 0),
    ],
)
def test_a_small_batch_is_counted_by_hand(spec, inverse, workspace, library):
    """All that is 40 x 40 on a CPU is there at once."""
    solve = _predicted(spec, (48, 44, 42), 40).phases["solve"]
    held = [solve.get(part, 0) for part in ("inverse", "workspace", "library")]
    assert held == [4 * inverse, 4 * workspace, 4 * library]


@pytest.mark.parametrize("form", ["factor", "gram", "exact", "rank_one"])
def test_a_budget_counts_for_auto_alone(form):
    spec, sizes = f"kfra[inverse={form}]", (300, 64, 10)
    assert _predicted(spec, sizes, 20, budget_bytes=1) == _predicted(spec, sizes, 20)


def test_formulas_know_what_is_composed_of_known_parts(tmp_path):
    (tmp_path / "own.py").write_text(USERS_OWN)
    assert predict(str(tmp_path / "own.py"), (50, 20, 10), 5) == predict("pch1+kfi[inverse=gram]", (50, 20, 10), 5)
    (tmp_path / "other.py").write_text(STEPS_OTHERWISE)
    assert predict(str(tmp_path / "other.py"), (50, 20, 10), 5) is None
    assert predict("torch.optim.AdamW", (50, 20, 10), 5) is None
    with pytest.raises(TypeError, match="Own has a step of its own"):  # its formula would be another's
        type("Own", (SecondOrder,), {"step": lambda self, tape: None})


def test_gram_and_factor_take_the_same_steps():
    """Where both fit: the form that stays within the budget replaces the one that does not."""
    steps = [noise_step(f"kfra[inverse={form}]", (120, 30, 10), 20, "float64") for form in ("gram", "factor")]
    for _ in range(3):
        for step in steps:
            step()
    for gram, factor in zip(*(step.network.parameters() for step in steps), strict=True):
        torch.testing.assert_close(gram, factor, rtol=1e-9, atol=1e-12)


def test_state_is_counted_once():
    """Also in the step that makes it; but for one number, as the fullest moment is another one."""
    first = noise_step("sgd", (40, 30, 10), 5)
    later = noise_step("sgd", (40, 30, 10), 5)
    later()
    assert peak_state_bytes(first) == pytest.approx(peak_state_bytes(later), abs=4)
    assert peak_state_bytes(later) < 2 * state_bytes(later.optimizer)


@pytest.mark.parametrize(
    ("message", "size"),
    [
        (
            "DefaultCPUAllocator: can't allocate memory: you tried to allocate 90634715136 bytes. Error code 12",
            90634715136,
        ),
        ("CUDA out of memory. Tried to allocate 84.41 GiB. GPU 0 has a total capacity of 79.1 GiB", int(84.41 * 2**30)),
        ("CUDA out of memory. Tried to allocate 20.00 MiB (GPU 0; 10.92 GiB total capacity)", 20 * 2**20),
        ("no room", None),
    ],
)
def test_the_size_that_was_refused_is_read(message, size):
    assert asked_bytes(message) == size


@pytest.mark.parametrize(
    ("text", "size"),
    [("11GB", 11 * 10**9), ("10 GiB", 10 * 2**30), ("1.5 kb", 1500), ("500", 500), ("2TB", 2 * 10**12)],
)
def test_sizes_are_read(text, size):
    assert parse_bytes(text) == size


def test_sizes_are_shown():
    assert [shown_bytes(size) for size in (0, 999, 1000, 999_600, 4 * 150528**2)] == [
        "0 B",
        "999 B",
        "1 kB",
        "1 MB",
        "90.6 GB",
    ]


def test_outcomes_say_what_happened():
    outcome = {
        measured: Row("sgd", None, measured).outcome
        for measured in (
            PeakMeasured("out of memory", asked_bytes=90634715136, budget_bytes=11 * 10**9),
            PeakMeasured("out of memory"),
            PeakMeasured("finished", fell_back=True),
            PeakMeasured("failed", reason="SIGKILL: no message"),
        )
    }
    assert list(outcome.values()) == [
        "out of memory: asked for 90.6 GB, budget 11 GB",
        "out of memory: budget the device",
        "factor did not fit: fell back to rank_one",
        "failed: SIGKILL: no message",
    ]


@pytest.mark.parametrize(("predicted_bytes", "ratio"), [(31_000_000, None), (33_000_000, 1.01)])
def test_a_small_net_has_no_ratio(predicted_bytes, ratio):
    """Its steps are lost among the process's own allocations, which the table and the record say."""
    row = Row("sgd", Footprint({"update": {"state": predicted_bytes}}), PeakMeasured("finished", peak_bytes=33_330_000))
    assert row.too_small == (ratio is None)
    assert row.ratio == ratio
    assert row.outcome == ("fits, too small to compare" if ratio is None else "fits")


@linux
def test_a_prediction_holds_in_a_fresh_process():
    sizes, batch = (12000, 2400, 10), 200
    predicted, measured = _predicted("sgd", sizes, batch), measure("sgd", sizes, batch, device="cpu")
    assert measured.status == "finished", measured.reason
    assert predicted.peak_bytes > 200e6
    assert measured.peak_bytes == pytest.approx(predicted.peak_bytes, rel=0.1)
    assert measured.step_seconds is not None
    assert measured.step_seconds > 0
    assert measured.budget_bytes is not None
    assert 0 < measured.budget_bytes < 1.2 * available_bytes()


@linux
def test_a_process_that_is_killed_is_a_failure(tmp_path, monkeypatch):
    """The file is found from the folder in which the caller is."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own.py").write_text(STEPS_OTHERWISE)
    measured = measure("own.py", (50, 20, 10), 5, device="cpu")
    assert measured.status == "failed"
    assert measured.reason is not None
    assert measured.reason.startswith("SIGKILL")


@linux
def test_the_command_reports_what_does_not_fit_and_what_replaces_it(kronbench, tmp_path):
    """A factor of 400 MB under 300 MB: refused, caught, reported; ``auto`` falls back with its warning."""
    specs = ["kfra[inverse=factor]", "kfra[inverse=auto]"]
    flags = ["--network", "10000,64,10", "--batch-size", "20", "--device", "cpu", "--budget", "300MB"]
    flags += [flag for spec in specs for flag in ("--optimizer", spec)]
    code, _, error = kronbench("memory", *flags, "--output", tmp_path / "out")
    assert code == 0, error
    assert "warning: kfra[inverse=auto]: the 10000 x 10000 factor of KFI does not fit" in error
    records = json.loads((tmp_path / "out" / "memory.json").read_text())
    factor, auto = records["rows"]
    assert factor["measured"]["status"] == "out of memory"
    assert factor["measured"]["asked_bytes"] == 4 * 10000**2
    assert factor["outcome"] == "out of memory: asked for 400 MB, budget 300 MB"
    assert factor["predicted"]["peak_bytes"] > 3e8 > factor["measured"]["peak_bytes"]
    assert factor["measured_over_predicted"] is None
    assert (auto["measured"]["status"], auto["measured"]["fell_back"]) == ("finished", True)
    assert auto["measured"]["step_seconds"] > 0
    assert auto["predicted"]["peak_bytes"] < 3e8
    shown = (tmp_path / "out" / "table.md").read_text()
    assert "out of memory: asked for 400 MB, budget 300 MB" in shown
    assert "fell back to rank_one" in shown
    config = tmp_path / "out" / "config.toml"
    again = ("--config", config, "--optimizer", "sgd", "--network", "50,10", "--output", tmp_path / "again")
    assert kronbench("memory", *again)[0] == 0
    one, other = (read_toml(folder / "config.toml") for folder in (tmp_path / "out", tmp_path / "again"))
    assert one | {name: other[name] for name in ("optimizer", "network", "output")} == other
    assert (one["budget"], one["batch_size"], one["optimizer"]) == ("300MB", 20, specs)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
@pytest.mark.parametrize("spec", ["sgd", "ea_cg", "kfra[inverse=gram]"])
def test_a_prediction_holds_on_cuda(spec):
    sizes, batch = (30000, 2048, 512, 10), 200
    predicted = _predicted(spec, sizes, batch, device="cuda")
    measured = measure(spec, sizes, batch, device="cuda", budget_bytes=2 * 10**9)
    assert measured.status == "finished", measured.reason
    assert measured.peak_bytes == pytest.approx(predicted.peak_bytes, rel=0.1)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
def test_a_budget_holds_on_cuda():
    measured = measure("kfra[inverse=factor]", (10000, 64, 10), 20, device="cuda", budget_bytes=300 * 10**6)
    assert measured.status == "out of memory", measured.reason
    assert measured.asked_bytes == pytest.approx(4 * 10000**2, rel=0.01)
