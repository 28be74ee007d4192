"""Templates: they place values and decide nothing, and whatever is placed stays in its place."""

from __future__ import annotations

import ast
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
    assert len(templates()) == 5


@pytest.mark.parametrize("template", templates())
def test_a_template_only_places_values_through_tojson(template: str) -> None:
    environment = render.environment()
    assert environment.loader is not None
    source, _, _ = environment.loader.get_source(environment, template)
    tree = environment.parse(source)
    allowed = (nodes.Output, nodes.If, nodes.For)
    assert [node for node in tree.find_all(nodes.Stmt) if not isinstance(node, allowed)] == []
    for output in tree.find_all(nodes.Output):
        for placed in output.nodes:
            if not isinstance(placed, nodes.TemplateData):
                assert isinstance(placed, nodes.Filter)
                assert placed.name == "tojson"


def test_a_missing_value_is_an_error() -> None:
    with pytest.raises(RenderError, match=r"config: .*[Uu]ndefined"):
        render.render("config", name="x")


def test_no_value_breaks_out_of_its_place() -> None:
    evil = 'x"\n  namespace: kube-system\n{% raw %} # \\'
    rendered = render.render("config", config_name=evil, namespace="a", data={"k": evil})
    assert rendered["metadata"] == {"name": evil, "namespace": "a"}
    assert rendered["data"] == {"k": evil}


@given(text=st.text())
@example(text="\U0001f600 \x85 \u2028 \u2029 \ufeff \uffff \x7f \0 \U0010ffff </script>' \" \\ \n")
def test_every_text_survives_rendering(text: str) -> None:
    rendered = render.render("config", config_name=text, namespace=text, data={"k": [text]})
    assert rendered["metadata"] == {"name": text, "namespace": text}
    assert rendered["data"] == {"k": [text]}


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
