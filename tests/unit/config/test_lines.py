from __future__ import annotations

from gemmad.config.lines import key_lines, line_of

TEXT = """\
# a remark with = and [brackets]
top = 1
server.port = 2

[model] # with a remark
path = "x"
"quoted key" = '''
[not.a.table]
fake = 1
'''
names = [
    "a", # one
    "b = c",
]
table = { inner = 1, other.deep = 2 }

[[many]]
name = 1
[a.b]
c = 1
"""


def test_each_key_is_found_on_its_line() -> None:
    """Tables, dotted and quoted keys, values over many lines and inline tables are found where they begin."""
    found = key_lines(TEXT)
    assert found == {
        ("top",): 2,
        ("server",): 3,
        ("server", "port"): 3,
        ("model",): 5,
        ("model", "path"): 6,
        ("model", "quoted key"): 7,
        ("model", "names"): 11,
        ("model", "table"): 15,
        ("model", "table", "inner"): 15,
        ("model", "table", "other"): 15,
        ("model", "table", "other", "deep"): 15,
        ("many",): 17,
        ("many", "name"): 18,
        ("a", "b"): 19,
        ("a", "b", "c"): 20,
    }


def test_line_ends_of_other_systems() -> None:
    """Lines that end in carriage return and newline count the same."""
    assert key_lines(TEXT.replace("\n", "\r\n")) == key_lines(TEXT)


def test_the_nearest_part_of_a_path_has_a_line() -> None:
    """A path that is not in the text gets the line of the table it belongs to, or none."""
    found = key_lines("[server]\nport = 1\n")
    assert line_of(found, ("server", "port")) == 2
    assert line_of(found, ("server", "host")) == 1
    assert line_of(found, ("model", "path")) is None


def test_a_text_without_a_last_newline() -> None:
    """The last line needs no newline."""
    assert key_lines("[server]\nport = 1") == {("server",): 1, ("server", "port"): 2}
