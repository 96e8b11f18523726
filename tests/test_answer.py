"""Who is best, by hand: the same rule for all, and no winner where the runs do not tell one."""

import math
from dataclasses import replace
from pathlib import Path

import pytest

from suites.harness.analysis.answer import answer
from suites.harness.measure.environment import describe
from suites.harness.records.facts import End
from suites.harness.records.journal import Journal
from suites.harness.show.captions import machine, sentences, verdict
from suites.harness.show.comparison import short_table
from suites.harness.show.table import fitted
from tests.example_records import header, point

TARGET = 0.95


def runs(method, costs, *, seconds=None, state=1000, status="finished", at_a_time=1):
    """One run for each cost in gradient-equivalents to the target; infinite: it never got there."""
    found = []
    for seed, cost in enumerate(costs):
        there = math.isfinite(cost)
        last = point(
            1,
            gradient_equivalents=cost if there else 1e4,
            training_seconds=(seconds[seed] if seconds else cost / 1000) if there else 10.0,
            test_accuracy=0.96 if there else 0.5,
        )
        end = End(status=status, peak_state_bytes=state)
        facts = header(optimizer=method, seed=seed, epochs=1, at_a_time=at_a_time)
        found.append(Journal(Path(f"{method}-{seed}.jsonl"), facts, [point(0), last], end))
    return found


def answered(**groups):
    return answer({name: group for name, group in groups.items()}, TARGET)


def around(middle, seeds=8):
    return [middle + seed for seed in range(seeds)]


NEVER = [math.inf] * 8


@pytest.mark.parametrize("winner", ["sgd", "torch.optim.Adam", "ea_cg"])
def test_whoever_is_cheapest_wins_by_the_same_rule(winner):
    methods = {
        name: runs(name, around(100 if name == winner else 300)) for name in ("sgd", "torch.optim.Adam", "ea_cg")
    }
    lead = answer(methods, TARGET).leads["gradients"]
    assert (lead.best, lead.level, lead.never, lead.enough) == (winner, (), (), True)
    assert lead.costs[winner].median == 103.5
    assert lead.over_next is not None
    assert lead.over_next.factor is not None
    assert lead.over_next.factor.median == pytest.approx(2.93, abs=0.02)
    assert lead.over_next.sure is not None
    assert lead.over_next.sure.value == 1
    assert (lead.over_sgd is None) == (winner == "sgd")


def test_who_cannot_be_told_apart_is_level_and_the_next_is_the_first_that_is():
    found = answered(sgd=runs("sgd", around(300)), kfac=runs("kfac", around(101)), ea_cg=runs("ea_cg", around(100)))
    lead = found.leads["gradients"]
    assert (lead.best, lead.level) == ("ea_cg", ("kfac",))
    assert lead.over_next is not None
    assert lead.over_next.over == "sgd"


def test_intervals_hold_for_all_pairs_together():
    """Where 85 % of the pairs of runs are the right way round, two methods are told apart, not the best of seven."""
    costs = {"a": [1.0, 2, 3, 4, 5, 6, 7, 8], "b": [4.5, 5.5, 6.5, 7.5, 8.5, 9.5, 10.5, 11.5]}
    two = answer({name: runs(name, of) for name, of in costs.items()}, TARGET).leads["gradients"]
    many = {**costs, **{f"c{number}": around(1000 + number) for number in range(5)}}
    seven = answer({name: runs(name, of) for name, of in many.items()}, TARGET).leads["gradients"]
    assert (two.best, two.level) == ("a", ())
    assert (seven.best, seven.level) == ("a", ("b",))


def test_equal_methods_are_level():
    found = answered(sgd=runs("sgd", around(100)), kfac=runs("kfac", around(100)))
    for key in ("gradients", "seconds", "peak_state"):
        assert (found.leads[key].best, found.leads[key].level) == ("sgd", ("kfac",))


def test_who_never_gets_there_is_neither_level_nor_next_and_has_no_memory():
    found = answered(sgd=runs("sgd", NEVER, state=1), kfac=runs("kfac", around(100)))
    lead = found.leads["gradients"]
    assert (lead.best, lead.level, lead.never, lead.over_next) == ("kfac", (), ("sgd",), None)
    assert lead.over_sgd is not None
    assert lead.over_sgd.factor is not None
    assert math.isinf(lead.over_sgd.factor.median)
    assert list(found.leads["peak_state"].costs) == ["kfac"]


def test_who_never_gets_there_is_not_level_with_too_few_seeds_either():
    lead = answered(sgd=runs("sgd", [math.inf]), kfac=runs("kfac", [1.0])).leads["gradients"]
    assert (lead.level, lead.never, lead.enough) == ((), ("sgd",), False)


def test_a_gain_is_said_of_those_who_are_told_apart_alone():
    groups = {"sgd": runs("sgd", around(101)), "kfac": runs("kfac", around(100)), "kfra": runs("kfra", NEVER)}
    first = sentences(answer(groups, TARGET))[0]
    assert first == "gradient-equivalents to 0.95: KFAC 104 [101, 106]. Level with it: SGD. Never there: KFRA."


def test_memory_does_not_depend_on_the_seed():
    """So one seed tells the least apart."""
    found = answered(sgd=runs("sgd", [5.0], state=77), kfac=runs("kfac", [4.0], state=113))
    lead = found.leads["peak_state"]
    assert (lead.best, lead.level, lead.enough) == ("sgd", (), True)
    assert lead.over_next is not None
    assert lead.over_next.factor == pytest.approx((113 / 77,) * 3)


def test_nobody_reached_the_target():
    for status in ("finished", "diverged", "failed"):
        found = answered(sgd=runs("sgd", NEVER, status=status), kfac=runs("kfac", NEVER, status=status))
        assert found.leads == {}
        assert sentences(found)[0] == "In the median nobody reached test accuracy 0.95."
        assert found.methods["kfac"].runs == {status: 8}


def test_one_method_alone_is_best_of_one():
    lead = answered(sgd=runs("sgd", around(100))).leads["gradients"]
    assert (lead.best, lead.level, lead.over_next, lead.over_sgd, lead.enough) == ("sgd", (), None, None, True)


def test_too_few_seeds_tell_nobody_apart():
    for seeds, enough in ((1, False), (2, False), (4, True)):
        found = answered(sgd=runs("sgd", around(300, seeds)), kfac=runs("kfac", around(100, seeds)))
        lead = found.leads["gradients"]
        assert (lead.best, lead.enough, lead.level) == ("kfac", enough, () if enough else ("sgd",))
        assert any("Too few seeds to tell" in line for line in sentences(found)) != enough


@pytest.mark.parametrize(("slower", "level"), [(1.04, ("sgd",)), (1.07, ())])
def test_times_must_differ_by_the_smallest_effect(slower, level):
    """Of five per cent, however sure a smaller one is; counted operations have none."""
    fast, slow = [1 + seed / 1e4 for seed in range(8)], [slower + seed / 1e4 for seed in range(8)]
    found = answered(sgd=runs("sgd", around(110), seconds=slow), kfac=runs("kfac", around(100, 8), seconds=fast))
    assert (found.leads["seconds"].best, found.leads["seconds"].level) == ("kfac", level)
    assert found.leads["gradients"].level == ()


def test_runs_at_a_time_say_nothing_of_seconds():
    found = answered(sgd=runs("sgd", around(300), at_a_time=8), kfac=runs("kfac", around(100)))
    assert list(found.leads) == ["gradients", "peak_state"]
    assert found.at_a_time == 8


LONG = "ea_cg[damping=0.0123456789,lr=0.0123456789,max_iter=1000,tolerance=0.0123456789]"
WORDS = [f"ea_cg[damping=0.0{number}]" for number in range(1, 9)]


@pytest.mark.parametrize(
    "groups",
    [
        {"sgd": runs("sgd", around(300)), "kfac": runs("kfac", around(100))},
        {name: runs(name, around(12345.678)) for name in ("sgd", LONG, "pch1+kfi", "./a_file_with_a_long_name.py")},
        {name: runs(name, around(12345.678)) for name in WORDS},
        {"sgd": runs("sgd", NEVER), "kfac": runs("kfac", NEVER, status="diverged")},
        {"sgd": runs("sgd", [1.0])},
        {"sgd": runs("sgd", [1.0], at_a_time=2), LONG: runs(LONG, [2.0])},
        {"sgd": runs("sgd", NEVER), LONG: runs(LONG, around(100)), "kfac": runs("kfac", [math.inf] * 5 + [9, 9, 9.0])},
    ],
)
def test_the_terminal_has_five_lines_and_a_table_within_80_columns(groups):
    found = answer(groups, TARGET)
    lines, table = verdict(found), fitted(short_table(found, groups)).splitlines()
    assert 2 <= len(lines) <= 5
    assert max(map(len, [*lines, *table])) <= 80
    assert "…" not in "".join(table)
    assert "".join(table).count(" *") == len(found.leads)


def test_the_short_table_has_memory_without_its_interval():
    """So that names keep their place within 80 columns where bytes depend on the run, as those of CG iterates."""
    groups = {"hf": [run for state in (593_000, 624_000, 638_000) for run in runs("hf", [1.0], state=state)]}
    assert short_table(answer(groups, TARGET), groups).texts[0][-1] == "624 kB *"


def test_the_verdict_says_who_by_how_much_who_is_level_and_what_was_tuned():
    groups = {name: runs(name, around(cost)) for name, cost in (("sgd", 300), ("kfac", 101), ("kfra", 100))}
    assert verdict(answer(groups, TARGET)) == [
        "digits, cross-entropy: best to test accuracy 0.95, 8 seeds",
        "  gradient-equivalents: KFRA 104; 2.93x [2.89, 2.98] fewer than SGD; level: KFAC",
        "  seconds: KFRA 0.103; 2.93x [2.89, 2.98] faster than SGD; level: KFAC",
        "  optimizer memory: SGD 1 kB; level: KFAC; KFRA",
        "  All untuned, at the defaults.",
    ]


@pytest.mark.parametrize("there", [3, 4])
def test_half_of_the_runs_has_no_median(there):
    """With 4 of 8 the median lies between a number and infinity."""
    half = runs("kfac", [*around(300, there), *NEVER[there:]])
    gradients, *_ = sentences(answered(sgd=runs("sgd", around(100)), kfac=half))
    assert "KFAC, which got there in at most half of its runs" in gradients


def test_a_method_that_was_not_tuned_is_called_so():
    groups = {name: runs(name, around(100)) for name in ("sgd[lr=1]", "kfac")}
    found = answer(groups, TARGET)
    assert verdict(found)[-1] == "  Untuned, at the defaults: KFAC. At given settings: SGD."
    assert [row[0] for row in short_table(found, groups).texts] == ["SGD\nlr=1", "KFAC†"]


def test_tuned_methods_are_shown_with_the_number_of_trials():
    groups = {name: runs(name, around(100)) for name in ("sgd[lr=1]", "kfac[lr=0.1]")}
    tuned = {
        name: [replace(run, header=replace(run.header, tuning="tuned", trials=27)) for run in group]
        for name, group in groups.items()
    }
    assert verdict(answer(tuned, TARGET))[-1] == "  All tuned in 27 trials each."
    mixed = answer({**tuned, "kfra": runs("kfra", around(100))}, TARGET)
    assert sentences(mixed)[-1] == "Tuned in 27 trials each: SGD; KFAC. Untuned, at the defaults: KFRA."


def test_who_diverged_is_shown_as_such():
    groups = {"sgd": runs("sgd", around(100)), "kfac": runs("kfac", NEVER, status="diverged")}
    name, accuracy, cost, *_ = short_table(answer(groups, TARGET), groups).texts[1]
    assert (name, accuracy, cost) == ("KFAC†\n8 diverged", "-", "never")


def test_a_machine_in_words():
    found = replace(describe("cpu"), cpu="AMD EPYC", torch="2.14.1", git=None)
    assert machine(replace(found, threads=1)) == "AMD EPYC, 1 thread, torch 2.14.1"
    assert machine(replace(found, threads=2)) == "AMD EPYC, 2 threads, torch 2.14.1"
