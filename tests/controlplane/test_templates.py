"""Templates: they place values and decide nothing, and whatever is placed stays in its place."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from jinja2 import nodes

from endpoint_operator.desired import render
from endpoint_operator.errors import RenderError


def templates() -> list[str]:
    return sorted(render.environment().list_templates())


def test_there_are_templates() -> None:
    assert len(templates()) == 8


def parsed(template: str) -> nodes.Template:
    environment = render.environment()
    assert environment.loader is not None
    source, _, _ = environment.loader.get_source(environment, template)
    return environment.parse(source)


@pytest.mark.parametrize("template", templates())
def test_a_template_only_places_values(template: str) -> None:
    tree = parsed(template)
    allowed = (nodes.Output, nodes.If, nodes.For)
    assert [node for node in tree.find_all(nodes.Stmt) if not isinstance(node, allowed)] == []
    for output in tree.find_all(nodes.Output):
        for placed in output.nodes:
            if not isinstance(placed, nodes.TemplateData):
                assert isinstance(placed, nodes.Filter)
                assert placed.name == "tojson"


@pytest.mark.parametrize("template", templates())
def test_a_value_is_all_there_is_behind_its_key_or_dash(template: str) -> None:
    for output in parsed(template).find_all(nodes.Output):
        texts = [getattr(node, "data", None) for node in output.nodes]
        for before, placed, after in zip(["", *texts], texts, [*texts[1:], "\n"], strict=False):
            if placed is None:
                assert re.search(r"(^|\n)[ -]*([\w./-]+:|-) $", before or "")
                assert (after or "").startswith("\n")


def test_a_missing_value_is_an_error() -> None:
    with pytest.raises(RenderError, match=r"engine-config: .*[Uu]ndefined"):
        render.render("engine-config", name="x")


def test_no_value_breaks_out_of_its_place() -> None:
    evil = 'x"\n  namespace: kube-system\n{% raw %} # \\'
    rendered = render.render("engine-config", name=evil, namespace="a", data={"k": evil})
    assert rendered["metadata"] == {"name": evil, "namespace": "a"}
    assert rendered["data"] == {"k": evil}


@given(text=st.text())
@example(text="\U0001f600 \x85 \u2028 \u2029 \ufeff \uffff \x7f \0 \U0010ffff </script>' \" \\ \n")
def test_every_text_survives_rendering(text: str) -> None:
    rendered = render.render("engine-config", name=text, namespace=text, data={"k": [text]})
    assert rendered["metadata"] == {"name": text, "namespace": text}
    assert rendered["data"] == {"k": [text]}


def test_a_shape_is_parsed_once_and_filled_with_fresh_data() -> None:
    data = {"k": ["v"]}
    first = render.render("engine-config", name="a", namespace="b", data=data)
    second = render.render("engine-config", name="c", namespace="d", data=data)
    assert first["data"] == second["data"] == data
    first["metadata"]["labels"] = {}
    first["data"]["k"].append("w")
    assert second["metadata"] == {"name": "c", "namespace": "d"}
    assert second["data"] == data == {"k": ["v"]}


def test_a_value_that_is_no_json_is_an_error() -> None:
    with pytest.raises(RenderError, match="engine-config: a value is no JSON"):
        render.render("engine-config", name="x", namespace="a", data={"k": object()})


def test_only_one_module_knows_jinja() -> None:
    package = Path(render.__file__).parents[1]
    users = [
        path.name
        for path in package.rglob("*.py")
        if any(
            isinstance(node, ast.Import) and any(name.name == "jinja2" for name in node.names)
            for node in ast.walk(ast.parse(path.read_text()))
        )
    ]
    assert users == ["render.py"]
