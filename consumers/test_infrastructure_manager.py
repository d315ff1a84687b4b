"""GRyCAP's Infrastructure Manager, run as a service, as ``docs/infrastructure-manager.md`` says."""

from document import is_in_order, run_document


def test_a_machine_from_its_description_to_its_end(tmp_path):
    printed, promised = run_document("infrastructure-manager.md", tmp_path)
    assert is_in_order(promised, printed), printed
