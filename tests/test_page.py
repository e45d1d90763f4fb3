from html.parser import HTMLParser
from pathlib import Path

import pytest
from websockets.datastructures import Headers

from streaming_asr.page import CONTENT_TYPES, WEB, Page


@pytest.fixture(scope="module")
def page() -> Page:
    return Page()


def test_every_file_is_served_under_its_type(page: Page) -> None:
    assert len(page.paths) == len(list(WEB.iterdir()))
    for path in page.paths:
        response = page.answer(path, Headers())
        assert response is not None
        file = WEB / ("index.html" if path == "/" else path.removeprefix("/web/"))
        assert response.body == file.read_bytes()
        assert response.headers["Content-Type"] == CONTENT_TYPES[file.suffix]
        assert response.headers["Content-Length"] == str(len(response.body))
        assert "default-src 'none'" in response.headers["Content-Security-Policy"]
        assert response.headers["X-Content-Type-Options"] == "nosniff"


NOWHERE = """
/web /web/ /web/index.html /web/../page.py /web/%2e%2e/page.py /web//main.js /main.js /web/main.js/ /web/..\\page.py
/etc/passwd //etc/passwd /web//etc/passwd * ? #
"""


@pytest.mark.parametrize("path", ["", "/web/\0", *NOWHERE.split()])
def test_no_other_path_leads_anywhere(page: Page, path: str) -> None:
    assert page.answer(path, Headers()) is None


def test_only_known_types_are_served(tmp_path: Path) -> None:
    (tmp_path / "index.html").write_text("hello")
    (tmp_path / "notes.txt").write_text("secret")
    (tmp_path / "web").mkdir()
    assert Page(tmp_path).paths == ["/"]


@pytest.mark.parametrize(
    ("condition", "status"),
    [
        (None, 200),
        ('"other"', 200),
        ("{tag}", 304),
        ("W/{tag}", 304),
        ('"other", {tag}', 304),
        ("*", 304),
        ("", 200),
    ],
)
def test_what_is_unchanged_is_not_sent_again(page: Page, condition: str | None, status: int) -> None:
    first = page.answer("/", Headers())
    assert first is not None
    tag = first.headers["ETag"]
    headers = Headers() if condition is None else Headers({"If-None-Match": condition.format(tag=tag)})
    response = page.answer("/", headers)
    assert response is not None
    assert response.status_code == status
    assert response.headers["ETag"] == tag
    assert response.headers["Cache-Control"] == "no-cache"
    assert bool(response.body) == (status == 200)


class _Links(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.urls: list[str] = []
        self.inline: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        for name, value in attributes:
            if name in ("src", "href"):
                self.urls.append(value or "")
            if name == "style" or name.startswith("on"):
                self.inline.append(f"{tag} {name}")


def test_the_page_asks_nobody_else_and_has_nothing_inline(page: Page) -> None:
    links = _Links()
    links.feed((WEB / "index.html").read_text())
    assert {f"/{url}" for url in links.urls} <= set(page.paths)
    assert links.inline == []
    for file in WEB.iterdir():
        text = file.read_text().replace('xmlns="http://www.w3.org/2000/svg"', "")
        assert "http://" not in text.replace("Open http://localhost", ""), file.name
        assert "https://" not in text.replace("to https:// and", ""), file.name
