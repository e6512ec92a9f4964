"""The counts that keep the house in order, of little made-up ones."""

from pathlib import Path
from typing import Any

import pytest

from benchmarks.house import Import, against, circles, imports, main, survey
from tests.conftest import ROOT


def house(root: Path, **files: str) -> Path:
    """Write modules by their dotted names, with `__` for a dot and `x__` for a package."""
    for name, text in files.items():
        path = root / (name.replace("__", "/") + ("__init__.py" if name.endswith("__") else ".py"))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


TIDY = {
    "repmlp__": "",
    "repmlp__block": "import torch\n",
    "spaces__small": "from repmlp import block\n",
    "search__engine": "from spaces.small import Space\n",
    "search__backends__raytune": "import ray.tune\n",
    "run_search": "import search.engine\n",
}
FAULTS = ("long", "crowded", "circles", "circles_of_types", "against", "against_for_types", "ray")


def faults(root: Path) -> dict[str, Any]:
    return {name: value for name, value in survey(root).items() if name in FAULTS and value}


def test_a_tidy_house_has_no_faults_and_its_lines_are_counted(tmp_path: Path) -> None:
    root = house(tmp_path, **TIDY)
    assert faults(root) == {}
    found = survey(root)
    assert found["lines"] == 5
    assert found["folders"] == {".": 1, "repmlp": 1, "search": 1, "search/backends": 1, "spaces": 1}
    with pytest.raises(SystemExit) as ended:
        main(root)
    assert not ended.value.code


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        (
            {"search__a": "from search import b", "search__b": "def f():\n    from search.a import x"},
            {"circles": [["search.a", "search.b", "search.a"]]},
        ),
        (
            {"search__": "from search.a import x", "search__a": "from . import y"},
            {"circles": [["search", "search.a", "search"]]},
        ),
        (
            {"search__a": "import search.b", "search__b": "if TYPE_CHECKING:\n    from .a import x"},
            {"circles_of_types": [["search.a", "search.b", "search.a"]]},
        ),
        ({"search__a": "import results.front", "results__front": ""}, {"against": ["search.a -> results.front"]}),
        ({"repmlp__a": "from spaces.small import x"}, {"against": ["repmlp.a -> spaces.small"]}),
        (
            {"results__a": "import typing\nif typing.TYPE_CHECKING:\n    from deploy import b", "deploy__b": ""},
            {"against_for_types": ["results.a -> deploy.b"]},
        ),
        ({"search__a": "def f():\n    from ray import tune"}, {"ray": ["search.a"]}),
        ({"search__a": "x = 1\n" * 351}, {"long": {"search/a.py": 351}}),
        ({f"search__m{i}": "" for i in range(15)}, {"crowded": {"search": 16}}),
        ({f"tests__unit__test_{i}": "" for i in range(16)}, {"crowded": {"tests/unit": 16}}),
    ],
)
def test_what_is_out_of_order_is_found_and_ends_in_an_error(
    tmp_path: Path, files: dict[str, str], expected: dict[str, Any]
) -> None:
    root = house(tmp_path, **TIDY, **files)
    assert faults(root) == expected
    with pytest.raises(SystemExit) as ended:
        main(root)
    assert ended.value.code == 1


def test_an_import_is_one_however_often_and_for_types_only_if_never_executed(tmp_path: Path) -> None:
    text = "if TYPE_CHECKING:\n    from search.a import x\nelse:\n    import search.a\nfrom search.a import y\n"
    root = house(tmp_path, search__a="", search__b=text)
    assert imports(root) == [Import("search.b", "search.a", False)]
    assert against(imports(root)) == []


def test_circles_are_counted_by_the_cuts_that_open_them() -> None:
    pairs = ["ab", "ba", "bc", "cb", "cd"]
    found = circles(Import(a, b, False) for a, b in pairs)
    assert sorted(sorted(set(circle)) for circle in found) == [["a", "b"], ["b", "c"]]


def test_this_house_is_in_order() -> None:
    assert faults(ROOT) == {}
