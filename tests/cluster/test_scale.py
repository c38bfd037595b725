"""The tables of docs/scale.md."""

import scale


def test_the_tables_of_the_page_are_those_of_the_model():
    text = scale.PAGE.read_text()
    assert scale.page(text) == text, "tests/cluster/scale.py --write"
