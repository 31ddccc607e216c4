"""Images in a page: only what is an image, as recorded, and within the limits."""

import hashlib
from base64 import b64decode

import pytest

from runner.errors import NotFoundError
from runner.reporting.images import Image, ImageLimits, is_image, read_images
from runner.runs.reader import RunArtifact

PNG = b"\x89PNG\r\n\x1a\n" + b"x" * 92


def file(name: str, content: bytes = PNG, *, size: int | None = -1, sha256: str | None = None) -> RunArtifact:
    found = len(content) if size == -1 else size
    return RunArtifact(
        name=name, names=(name,), size=found, pieces=lambda: iter([content[:50], content[50:]]), sha256=sha256
    )


def read(*files: RunArtifact, **limits: int) -> list[Image]:
    return list(read_images([("run", one) for one in files], ImageLimits(**limits)))


def test_an_image_becomes_a_data_url() -> None:
    (image,) = read(file("a.PNG", sha256=hashlib.sha256(PNG).hexdigest()))
    head, _, data = (image.data or "").partition(",")
    assert head == "data:image/png;base64"
    assert b64decode(data) == PNG
    (drawing,) = read(file("a.svg", b'\xef\xbb\xbf\n<?xml version="1.0"?><svg/>'))
    assert (drawing.data or "").startswith("data:image/svg+xml;base64,")


@pytest.mark.parametrize(
    ("one", "reason"),
    [
        (file("a.png", b"<script>"), "is not an image of this kind"),
        (file("a.png", sha256="0" * 64), "differs from the digest"),
        (file("a.png", PNG * 20), "larger than the limit"),
        (file("a.png", PNG * 20, size=None), "larger than the limit"),
        (file("a.png", PNG * 20, size=5), "larger than the limit"),
    ],
)
def test_what_is_left_out_has_a_reason(one: RunArtifact, reason: str) -> None:
    (image,) = read(one, single=1000)
    assert image.data is None
    assert reason in (image.reason or "")


def test_a_file_that_is_gone_is_left_out() -> None:
    def pieces() -> None:
        raise NotFoundError("it is missing")

    (image,) = read(RunArtifact(name="a.png", names=("a.png",), size=1, pieces=pieces))  # type: ignore[arg-type]
    assert image.reason == "it is missing"


def test_the_page_has_room_for_some_images() -> None:
    files = [file(f"{number}.png") for number in range(5)]
    assert [bool(image.data) for image in read(*files, count=3)] == [True] * 3 + [False] * 2
    assert [bool(image.data) for image in read(*files, single=100, total=250)] == [True, True, False, False, False]


def test_names_of_images() -> None:
    assert [is_image(file(name)) for name in ("a.jpeg", "a/b.GIF", "a.txt", "png", "a.png.txt", "a.html")] == [
        *(True, True, False, False, False, False)
    ]
