"""``examples/multi_cloud.py`` on EC2 and on MCS, as ``docs/multi-cloud.md`` says."""

import ast

from document import ROOT, is_in_order, run_document


def test_the_same_script_does_the_same_on_both(tmp_path):
    printed, promised = run_document("multi-cloud.md", tmp_path)
    assert is_in_order([*promised, *promised], printed)


def test_it_knows_no_provider():
    tree = ast.parse((ROOT / "examples" / "multi_cloud.py").read_text(encoding="utf-8"))
    decisions = [ast.unparse(node.test) for node in ast.walk(tree) if hasattr(node, "test")]
    assert decisions
    assert not [each for each in decisions if "provider" in each or "driver." in each]
