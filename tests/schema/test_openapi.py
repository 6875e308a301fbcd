"""Registries from OpenAPI descriptions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from tomas_router import ProfilingTable, ToolRegistry
from tomas_router.cli.main import main
from tomas_router.errors import DataValidationError
from tomas_router.schema.findings import DataWarning

pytestmark = pytest.mark.m0

YAML = """
openapi: 3.0.3
info: {title: Pictures, version: 2026-01-31}
paths:
  /pictures/{id}:
    parameters:
      - {name: id, in: path, required: true, schema: {type: string}, description: Of the picture}
    get:
      operationId: getPicture
      summary: Shows a picture.
      description: Shows a picture. Small ones at once.
      parameters:
        - $ref: '#/components/parameters/Size'
        - {name: Authorization, in: header, schema: {type: string}}
    post:
      operationId: readText
      summary: Reads the text in a picture
      description: In any of 30 languages.
      tags: [ocr]
      requestBody:
        required: true
        content:
          application/json:
            schema: {$ref: '#/components/schemas/Job'}
      x-tomas:
        tags: ['group:ocr']
        profile:
          - {input_size: small, cpu_core: 2, cpu_mem_gb: 1, gpu_sm: 0, gpu_mem_gb: 0, latency_ms: 900}
  /tree:
    put:
      summary: Stores a tree.
      requestBody:
        content:
          application/json: {schema: {$ref: '#/components/schemas/Tree'}}
          text/plain: {schema: {type: string}}
    delete: {operationId: cutTree, summary: Cuts a tree., deprecated: true}
components:
  parameters:
    Size: {name: size, in: query, schema: {type: integer, minimum: 0, exclusiveMinimum: true, nullable: true}}
  schemas:
    Named:
      type: object
      required: [id]
      properties:
        id: {type: string, description: Of the job}
        made: {type: string, readOnly: true}
    Job:
      allOf:
        - $ref: '#/components/schemas/Named'
        - type: object
          required: [languages]
          properties:
            languages: {type: array, items: {type: string}, example: [no]}
            node: {$ref: '#/components/schemas/Tree'}
    Tree:
      type: array
      items: {$ref: '#/components/schemas/Tree'}
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "pictures.yaml"
    file.write_text(YAML, encoding="utf-8")
    return file


@pytest.fixture
def registry(path: Path) -> ToolRegistry:
    return ToolRegistry.from_openapi(path)


def test_registry_when_read_has_names_descriptions_version_and_tags(registry: ToolRegistry) -> None:
    assert registry.names == ("getPicture", "readText", "put_tree", "cutTree")
    assert registry["getPicture"].desc == "Shows a picture. Small ones at once."
    assert registry["readText"].desc == "Reads the text in a picture. In any of 30 languages."
    assert {tool.version for tool in registry} == {"2026-01-31"}
    assert registry["cutTree"].tags == ("deprecated",)
    assert registry["readText"].group == "ocr"
    assert all(tool.output_types == () for tool in registry)


def test_arguments_when_read_join_path_operation_and_body(registry: ToolRegistry) -> None:
    schema = registry["readText"].parameters
    assert schema is not None
    properties: Any = schema["properties"]
    assert {name: part["x-in"] for name, part in properties.items()} == {
        "id": "path", "id_body": "body", "languages": "body", "node": "body",
    }  # fmt: skip
    assert properties["id_body"]["x-name"] == "id"
    assert properties["id"]["description"] == "Of the picture"
    assert schema["required"] == ["id", "id_body", "languages"]
    assert (schema["x-method"], schema["x-path"]) == ("post", "/pictures/{id}")
    assert properties["languages"]["examples"] == [["no"]]


def test_arguments_when_used_say_what_is_right_and_wrong(registry: ToolRegistry) -> None:
    schema: Any = registry["readText"].parameters
    Draft202012Validator.check_schema(schema)
    good = {"id": "a", "id_body": "b", "languages": ["de"], "node": [[], [[]]]}
    assert Draft202012Validator(schema).is_valid(good)
    assert not Draft202012Validator(schema).is_valid(good | {"node": [[], ["leaf"]]})
    size: Any = Draft202012Validator(registry["getPicture"].parameters["properties"]["size"])  # type: ignore[index]
    assert [size.is_valid(v) for v in (1, 0, None, "1")] == [True, False, True, False]


def test_body_when_no_object_is_one_argument_and_needed_as_the_body_is(registry: ToolRegistry) -> None:
    schema: Any = registry["put_tree"].parameters
    assert list(schema["properties"]) == ["body"]
    assert "required" not in schema
    assert schema["$defs"]["Tree"]["items"] == {"$ref": "#/$defs/Tree"}


def test_profile_when_an_operation_carries_it_is_read(path: Path) -> None:
    assert [row.latency_ms for row in ProfilingTable.from_openapi(path).rows("readText")] == [900]


def test_registry_when_written_and_read_is_the_same(path: Path, tmp_path: Path, capsys: Any) -> None:
    out, csv = tmp_path / "tools.json", tmp_path / "profiling.csv"
    assert main(["registry", "from-openapi", str(path), "--out", str(out), "--profiling-out", str(csv)]) == 0
    assert capsys.readouterr().out.splitlines() == [f"{out}: 4 tools", f"{csv}: 1 rows of 1 tools"]
    again = ToolRegistry.from_json(out)
    assert again.content_hash == ToolRegistry.from_openapi(path).content_hash
    assert len(ProfilingTable.from_csv(csv, again)) == 1


def description(paths: Any = None, **changes: Any) -> dict[str, Any]:
    given = {"/a": {"get": {"summary": "A."}}} if paths is None else paths
    return {"openapi": "3.1.0", "info": {"title": "t", "version": "1"}, "paths": given} | changes


def test_operation_when_nothing_describes_it_is_named_and_warned_about() -> None:
    with pytest.warns(DataWarning, match=r"paths\./a\.get has no summary and no description"):
        registry = ToolRegistry.from_openapi(description({"/a": {"get": {}}}))
    assert registry["get_a"].desc == "GET /a"


def get(**node: Any) -> dict[str, Any]:
    return {"/a": {"get": {"summary": "A."} | node}}


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (description(openapi="2.0"), "openapi must be 3.0 or 3.1, got '2.0'"),
        (description(swagger="2.0"), "swagger must be an OpenAPI 3 description; convert it first, got '2.0'"),
        (description([]), "paths must be an object of paths, got 'list'"),
        (description({}), "paths holds no operation"),
        (description({"/a": 5}), "paths./a must be an object, got 5"),
        (description(get(parameters=[{"in": "query"}])), "paths./a.get.parameters[0] must have a name, and in ="),
        (
            description(get(parameters=[{"$ref": "#/components/parameters/X"}])),
            "paths./a.get.parameters[0].$ref points to nothing, got '#/components/parameters/X'",
        ),
        (
            description(get(requestBody={"$ref": "other.yaml#/B"})),
            "paths./a.get.requestBody.$ref must point into this file (#/...); bundle",
        ),
        (description(get(requestBody={"$ref": "#/x"}), x={"$ref": "#/x"}), "must not refer to itself"),
        (
            description(get(parameters=[{"name": "q", "in": "query", "schema": {"$ref": "#/nowhere"}}])),
            "paths./a.get.q.$ref points to nothing",
        ),
        (
            description({p: {"get": {"operationId": "one", "summary": "A."}} for p in ("/a", "/b")}),
            "paths./b.get.operationId must be unique, but paths./a.get has the same, got 'one'",
        ),
        (description(get(**{"x-tomas": {"prfile": []}})), "paths./a.get.x-tomas.prfile is unknown; may hold desc"),
    ],
)
def test_description_when_wrong_says_where_and_what(data: dict[str, Any], message: str) -> None:
    with pytest.raises(DataValidationError) as caught:
        ToolRegistry.from_openapi(data)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "pictures.json:1: must be JSON"),
        ("a: [", "pictures.json:2: must be YAML or JSON: did not find"),
        ("a: 1\na: 2\n", "pictures.json:2: must be YAML or JSON: the key 'a' repeats"),
        ("- 1", "must be an object with openapi, info and paths, got 'list'"),
    ],
)
def test_file_when_unreadable_names_the_line(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "pictures.json"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(DataValidationError) as caught:
        ToolRegistry.from_openapi(file)
    assert message in str(caught.value)


def test_command_when_the_file_is_wrong_ends_with_2(tmp_path: Path, capsys: Any) -> None:
    file = tmp_path / "bad.json"
    file.write_text(json.dumps(description({})), encoding="utf-8")
    assert main(["registry", "from-openapi", str(file), "--out", str(tmp_path / "x")]) == 2
    assert "bad.json: paths holds no operation" in capsys.readouterr().err
