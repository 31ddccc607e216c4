"""The HTML writer: whatever a text has in it, the page has exactly that text and nothing else."""

from html.parser import HTMLParser

from hypothesis import given
from hypothesis import strategies as st

from runner.reporting.html import Html, element, join, visible


class Reader(HTMLParser):
    """Notes the elements, attributes and texts of a page."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[str] = []
        self.values: list[str | None] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.values += [value for _, value in attrs]

    def handle_data(self, data: str) -> None:
        self.text += data


HOSTILE = st.one_of(st.text(), st.sampled_from(["</td><script>", '" onload="x', "<!--", "&lt;", "\u202e", "\0", "]]>"]))


@given(HOSTILE, HOSTILE)
def test_any_text_stays_text(text: str, value: str) -> None:
    page = Reader()
    page.feed(element("td", text, title=value))
    page.close()
    assert page.tags == ["td"]
    assert page.text == visible(text)
    assert page.values == [visible(value)]


@given(st.text())
def test_no_character_hides_or_turns_text(text: str) -> None:
    assert all(letter.isprintable() or letter in "\n\t" for letter in visible(text))


def test_elements() -> None:
    assert element("img", src="a&b", alt="") == '<img src="a&amp;b" alt="">'
    assert element("details", "x", open=True, hidden=False, id=None) == "<details open>x</details>"
    assert element("th", "a", class_="b", aria_label="c") == '<th class="b" aria-label="c">a</th>'
    assert join("<", Html("<br>"), None, ["a", element("i", "b")]) == "&lt;<br>a<i>b</i>"
