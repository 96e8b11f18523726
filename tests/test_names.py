"""One name for people for every method, however its specification is written."""

import pytest

from suites.harness.names import plain_name, shown_name
from suites.harness.show.looks import labels


@pytest.mark.parametrize(
    ("specs", "name"),
    [
        (("sgd",), "SGD"),
        (("torch.optim.Adam",), "Adam"),
        (("torch.optim.SGD",), "torch.optim.SGD"),
        (("kfac", "fisher+kfi"), "KFAC"),
        (("kfra", "gauss_newton+kfi"), "KFRA"),
        (("ea_cg", "ea_cg[gamma=-1]", "pch1+ea_cg"), "EA-CG, PCH-1"),
        (("ea_cg[gamma=0]", "ea_cg[gamma=0.0]", "pch2+ea_cg"), "EA-CG, PCH-2"),
        (("fisher+ea_cg",), "Fisher + EA-CG"),
        (("diagonal",), "diagonal"),
        (("mine.Shampoo",), "mine.Shampoo"),
    ],
)
def test_a_method_has_one_name(specs, name):
    assert {shown_name(spec) for spec in specs} == {plain_name(spec) for spec in specs} == {name}


@pytest.mark.parametrize(
    ("spec", "name", "options"),
    [
        ("sgd[lr=1]", "SGD", "lr=1"),
        ("ea_cg[gamma=0,lr=0.2,damping=0.02]", "EA-CG, PCH-2", "lr=0.2, damping=0.02"),
        ("ea_cg[gamma=-0.5]", "EA-CG, PCH", "gamma=-0.5"),
        ("fisher+kfi[inverse=rank_one]", "KFAC", "inverse=rank_one"),
        ("torch.optim.Adam[lr=0.02,betas=(0.9, 0.99)]", "Adam", "lr=0.02, betas=(0.9, 0.99)"),
    ],
)
def test_options_stand_behind_the_name(spec, name, options):
    assert shown_name(spec) == f"{name} [{options}]"
    assert plain_name(spec) == name


def test_every_optimizer_of_the_package_has_a_name_for_people():
    from suites.harness.training.catalog import grid, named

    assert [spec for spec in {**named(), **grid()} if plain_name(spec) == spec] == []


def test_methods_that_are_shown_together_have_the_shortest_names_that_no_other_has():
    specs = ["sgd[lr=1]", "kfac[lr=1,damping=0.1]", "kfac[labels=sampled,lr=2]", "ea_cg[lr=1]", "ea_cg[lr=2]"]
    assert list(labels(specs).values()) == [
        *("SGD", "KFAC", "KFAC [labels=sampled]", "EA-CG, PCH-1 [lr=1]", "EA-CG, PCH-1 [lr=2]")
    ]
    assert labels([]) == {}
