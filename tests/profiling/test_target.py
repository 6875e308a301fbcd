from __future__ import annotations

import pytest

from tomas_router.profiling.target import load_tools
from tomas_router.profiling.tool import ProfiledToolError

pytestmark = pytest.mark.m0

HEAD = "from tomas_router.profiling import ProfiledTool\nimport helper_of_target\n"
ONE = "ProfiledTool(helper_of_target.work, {'small': {}})"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    (tmp_path / "helper_of_target.py").write_text('def work():\n    """Works."""\n', encoding="utf-8")
    (tmp_path / "target_module.py").write_text(
        f"{HEAD}one = {ONE}\nmany = [{ONE}, ProfiledTool(len, {{'small': {{}}}})]\nnamed = {{'x': {ONE}}}\n"
        f"def made():\n    return [{ONE}]\ntwice = [{ONE}, {ONE}]\nplain = [len]\nempty = []\nnumber = 7\n",
        encoding="utf-8",
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


@pytest.mark.parametrize(
    ("attribute", "names"), [("one", ["work"]), ("many", ["work", "len"]), ("named", ["work"]), ("made", ["work"])]
)
@pytest.mark.parametrize("place", ["target_module", "target_module.py"])
def test_target_when_it_holds_tools_gives_them_in_order(folder, place, attribute, names):
    assert [tool.name for tool in load_tools(f"{place}:{attribute}")] == names


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("target_module", "target must be my_module:tools or my_file.py:tools, got 'target_module'"),
        ("absent_module:tools", "there is no module 'absent_module'"),
        ("absent.py:tools", "there is no file 'absent.py'"),
        ("target_module:absent", "target_module has no 'absent'"),
        ("target_module:twice", "the name 'work' repeats"),
        ("target_module:plain", "element 0 must be a ProfiledTool, .* got builtin_function_or_method"),
        ("target_module:empty", "must hold at least one ProfiledTool"),
        ("target_module:number", "must hold ProfiledTool objects, got int"),
    ],
)
def test_target_when_wrong_says_why(folder, target, message):
    with pytest.raises(ProfiledToolError, match=message):
        load_tools(target)


def test_target_when_something_it_imports_is_missing_says_what(folder):
    (folder / "needs_more.py").write_text("import not_installed_at_all\n", encoding="utf-8")
    with pytest.raises(ModuleNotFoundError, match="not_installed_at_all"):
        load_tools("needs_more:tools")
