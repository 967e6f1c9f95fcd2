"""Opens an endpoint's page in a headless Chromium, as its reader would, and prints what was seen as JSON.

Run by the Python that has `playwright`: URL and token on stdin.
"""

import json
import sys
from typing import Any

from playwright.sync_api import Page, sync_playwright


def look(page: Page, given: dict[str, Any]) -> dict[str, Any]:
    said: list[str] = []
    asked: list[str] = []
    page.on("console", lambda message: said.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(f"{given['url']}/docs")
    enter(page, "wrong")
    page.wait_for_selector("#refused:not(:empty)")
    refused = page.text_content("#refused")
    hidden = not page.is_visible("#shown")
    enter(page, given["token"])
    page.wait_for_selector("#columns tr")
    seen = {
        "refused": refused,
        "hidden_until_then": hidden,
        "title": page.text_content("h1"),
        "columns": [row.text_content() for row in page.query_selector_all("#columns tr td:first-child")],
        "tried": [try_example(page, place) for place in range(len(page.query_selector_all("#example option")))],
        "shell": page.text_content("#shell"),
    }
    page.select_option("#example", index=0)
    page.fill("#body", "[[]]")
    page.click("#ask")
    page.wait_for_selector("#status.bad")
    seen["wrong"] = [page.text_content("#status"), page.text_content("#answer")]
    seen["stored"] = page.context.storage_state()
    return {**seen, "errors": said, "asked": asked}


def enter(page: Page, token: str) -> None:
    page.fill("#token", token)
    page.click("button[type=submit]")


def try_example(page: Page, place: int) -> dict[str, Any]:
    page.select_option("#example", index=place)
    page.click("#ask")
    page.wait_for_selector("#answer:not([hidden])")
    return {
        "name": page.eval_on_selector("#example", "list => list.selectedOptions[0].text"),
        "status": page.text_content("#status"),
        "answer": page.text_content("#answer"),
    }


def main() -> None:
    given = json.load(sys.stdin)
    with sync_playwright() as playwright:
        # as root there is no sandbox of Chromium's own; the page is ours
        browser = playwright.chromium.launch(executable_path=given["browser"], args=["--no-sandbox"])
        try:
            json.dump(look(browser.new_page(), given), sys.stdout)
        finally:
            browser.close()


main()
