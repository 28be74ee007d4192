"""vLLM's options: what its own parser would take for an owned one is refused, nothing else is."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import NoReturn

import pytest
from pydantic_core import PydanticCustomError

from endpoint_operator.api import options

CAPTURE = Path(__file__).parents[1] / "contract" / "vllm-options.txt"
ACTIONS = [line.split() for line in CAPTURE.read_text().splitlines() if not line.startswith("#")]
NAMES = [name for names in ACTIONS for name in names]


def long_name(names: list[str]) -> str:
    """Return the name by which we know an option: the one that is not a short or negative one."""
    return next(name for name in names if name.startswith("--")).removeprefix("--")


class Parser(argparse.ArgumentParser):
    """vLLM's options, as argparse knows them."""

    def __init__(self) -> None:
        super().__init__(add_help=False)
        for names in ACTIONS:
            self.add_argument(*names, dest=long_name(names))

    def error(self, message: str) -> NoReturn:
        raise ValueError(message)


PARSER = Parser()


def taken_by_vllm(*arguments: str) -> str | None:
    """Return the option that argparse takes arguments for; None if it takes them for none."""
    try:
        found, _ = PARSER.parse_known_args(arguments)
    except ValueError:  # ambiguous
        return None
    return next((name for name, value in vars(found).items() if value is not None), None)


def is_refused(argument: str) -> bool:
    try:
        options.check_argument(argument)
    except PydanticCustomError:
        return True
    return False


def test_every_owned_option_and_parallel_size_is_one_of_vllms() -> None:
    known = {long_name(names) for names in ACTIONS}
    assert set(options.OWNED) - known == set()
    assert options.PARALLEL_SIZES - known == set()


def test_the_names_of_owned_options_are_refused_and_all_others_are_the_users() -> None:
    names = {name: long_name(names) in options.OWNED for names in ACTIONS for name in names}
    switched_off = {name for name in names if name.startswith("--no-")}
    wrong = [
        argument
        for name, owned in names.items()
        for argument in (name, f"{name}=1")
        if is_refused(argument) != (owned and name not in switched_off)
    ]
    assert wrong == []


@pytest.mark.parametrize("owned", options.OWNED)
def test_every_beginning_that_vllm_completes_to_an_owned_option_is_refused(owned: str) -> None:
    beginnings = [f"--{owned[:length]}=1" for length in range(1, len(owned) + 1)]
    completed = [argument for argument in beginnings if taken_by_vllm(argument) == owned]
    assert completed
    assert [argument for argument in completed if not is_refused(argument)] == []


@pytest.mark.parametrize("name", [name for name in NAMES if not name.startswith("--")])
def test_a_short_name_means_what_vllm_takes_it_for_and_so_do_its_beginnings(name: str) -> None:
    forms = [[f"{name}=1"], [f"{name}1"], *([name[:end], "1"] for end in range(2, len(name) + 1))]
    for form in forms:
        taken = taken_by_vllm(*form)
        assert is_refused(form[0]) == (taken in options.OWNED)
        sizes = {taken: 1} if taken in options.PARALLEL_SIZES else {}
        assert options.parallel_sizes({}, form) == sizes


@pytest.mark.parametrize("size", sorted(options.PARALLEL_SIZES))
def test_every_beginning_that_vllm_completes_to_a_parallel_size_is_one(size: str) -> None:
    beginnings = [f"--{size[:length]}=2" for length in range(1, len(size) + 1)]
    completed = [argument for argument in beginnings if taken_by_vllm(argument) == size]
    assert completed
    for argument in completed:
        assert options.parallel_sizes({}, [argument]) == {size: 2}


@pytest.mark.parametrize(
    ("config", "args", "expected"),
    [
        ({}, [], {}),
        ({"tensor_parallel_size": 2}, [], {"tensor-parallel-size": 2}),
        ({"tensor-parallel-size": 2}, ["-tp", "4"], {"tensor-parallel-size": 4}),
        ({}, ["-tp=2", "-pp", "3"], {"tensor-parallel-size": 2, "pipeline-parallel-size": 3}),
        ({}, ["-tp", "2", "--tensor_parallel_size", "4"], {"tensor-parallel-size": 4}),
        ({}, ["--seed", "2"], {}),
    ],
)  # fmt: skip
def test_parallel_sizes_are_read_from_file_and_arguments(
    config: dict[str, object], args: list[str], expected: dict[str, int]
) -> None:
    assert options.parallel_sizes(config, args) == expected


def test_options_in_arguments_are_known_by_their_long_names_in_dash_form() -> None:
    args = ["--load_format", "x", "--seed=1", "-tp", "2", "value", "--a_b.c_d", "1", "-O3"]
    assert options.in_args(args) == {"load-format", "seed", "tensor-parallel-size", "a-b.c_d"}
