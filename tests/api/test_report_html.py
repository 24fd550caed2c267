"""The report as a page: everything is in it, and every string of the model is text."""

from __future__ import annotations

import dataclasses
from html.parser import HTMLParser

import dlc
from dlc.api.report import FusionReport, HostReport, KernelReport
from tests.api.small_models import AFFINE

EVIL = "<script>alert(1)</script>\"'&\x1b[31m<img src=x onerror=y>"


class Page(HTMLParser):
    """Tags and attributes of a page, and its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: set[str] = set()
        self.text: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes.update(name for name, _ in attrs)

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def test_a_page_says_what_the_report_says() -> None:
    with dlc.compile(AFFINE, cache=False) as model:
        report = model.report()
    page = Page(report.to_html())
    for kernel in report.kernels:
        assert kernel.function in page.text and kernel.template in page.text
        assert ", ".join(kernel.nodes) in page.text
    for fusion in report.fusions:
        assert fusion.reason in page.text
    assert {name for name, _ in report.phases} <= set(page.text)
    assert page.tags.count("table") >= 4 and page.tags[0] == "html"


def test_names_are_no_markup() -> None:
    with dlc.compile(AFFINE, cache=False) as model:
        report = dataclasses.replace(
            model.report(),
            model=EVIL,
            kernels=(KernelReport(EVIL, EVIL, (EVIL, EVIL)),),
            hosts=(HostReport(EVIL, EVIL, EVIL, EVIL),),
            fusions=(FusionReport(EVIL, EVIL, True, EVIL),),
            rewrites=((EVIL, 1),),
            phases=((EVIL, 0.1),),
        )
    text = report.to_html()
    page = Page(text)
    assert not {"script", "img", "link", "iframe"} & set(page.tags)
    assert page.attributes <= {"lang", "charset", "http-equiv", "content", "class"}
    assert "\x1b" not in text and "alert(1)" in "".join(page.text)
