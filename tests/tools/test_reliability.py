"""The tables of the reliability page: hostile names are shown as they are."""

import pytest

from tools.reliability import rule_table


@pytest.mark.parametrize(
    ("name", "shown"),
    [("<b>&.wav", "&#60;b&#62;&#38;.wav"), ("a|b", "a&#124;b"), ("$x$", "&#36;x&#36;"), ("_*`", "\\_\\*\\`")],
)
def test_a_hostile_name_is_shown_as_it_is(name, shown):
    case = {"fault": name, "rule": "names are kept", "outcome": "read", "as_ruled": True}
    assert rule_table({"data": {"sounds": [case]}}).splitlines()[-1] == f"| names are kept | {shown} | read |"


def test_a_rule_with_several_outcomes_names_them_all():
    read = {"fault": "a", "rule": "r", "outcome": "read", "as_ruled": True}
    table = rule_table({"data": {"sounds": [read], "tables": [read | {"fault": "b", "outcome": "refused"}]}})
    assert table.splitlines()[2:] == ["| r | a, b | read or refused |"]
