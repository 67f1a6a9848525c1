"""A real browser for the pages, where there is one: Debian's chromium, driven by Playwright."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator

import pytest
from axe_playwright_python.sync_playwright import Axe  # type: ignore[import-untyped]
from playwright.sync_api import Browser, Page, sync_playwright

_CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
#: Without these it talks to its maker at every start; as root, or in a container, it has no sandbox.
_FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
PHONE, LAPTOP, WIDE = (360, 740), (1280, 800), (1920, 1080)

needs_browser = pytest.mark.skipif(
    not _CHROMIUM, reason="no chromium on PATH: apt-get install chromium, and the pages are looked at in it"
)


@contextlib.contextmanager
def browser() -> Iterator[Browser]:
    """Start a browser without a screen."""
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=_CHROMIUM, args=_FLAGS)
        try:
            yield started
        finally:
            started.close()


@contextlib.contextmanager
def looked_at(opened: Browser, url: str, screen: tuple[int, int] = LAPTOP, *, dark: bool = False) -> Iterator[Page]:
    """Open a page, and see afterwards that it made no error, asked for nothing elsewhere, and needs no scrolling sideways.

    With PGSLUICE_SCREENSHOTS=FOLDER a picture of it is kept there.
    """
    context = opened.new_context(
        viewport={"width": screen[0], "height": screen[1]}, color_scheme="dark" if dark else "light"
    )
    wrong: list[str] = []
    page = context.new_page()
    page.on("console", lambda told: wrong.extend([told.text] if told.type in {"error", "warning"} else []))
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("dialog", lambda dialog: wrong.append(f"dialog {dialog.message}"))
    page.on("request", lambda asked: wrong.extend([] if asked.url.startswith(url) else [asked.url]))
    page.goto(url)
    yield page
    assert not wrong, wrong
    assert page.evaluate("document.documentElement.scrollWidth") <= screen[0]
    if folder := os.environ.get("PGSLUICE_SCREENSHOTS"):
        page.screenshot(path=f"{folder}/{screen[0]}-{'dark' if dark else 'light'}.png", full_page=True)
    context.close()


def serious(opened: Browser, url: str, screen: tuple[int, int], *, dark: bool) -> list[str]:
    """Return what axe-core calls serious or critical on a page, contrast included."""
    context = opened.new_context(  # its script is none of the page's own
        viewport={"width": screen[0], "height": screen[1]}, color_scheme="dark" if dark else "light", bypass_csp=True
    )
    page = context.new_page()
    page.goto(url)
    found = Axe().run(page).response["violations"]
    context.close()
    return [f"{each['id']}: {each['nodes'][0]['html']}" for each in found if each["impact"] in {"serious", "critical"}]
