"""The page for people at `/docs`: one file without anything from elsewhere, and nothing of the model in it.

What it shows it fetches from `openapi.json` with the token that its reader types in. The browser runs only the script
of this very file (its hash is in the policy), and lets it talk to this endpoint alone.
"""

import base64
import hashlib
import re
from functools import cache
from pathlib import Path

from deploy.http.asgi import Answer

PAGE = Path(__file__).with_name("docs_page.html")


@cache
def docs_page() -> Answer:
    """Returns the page with its policy (Content Security Policy, level 3)."""
    page = PAGE.read_bytes()
    policy = (
        f"default-src 'none'; script-src {_hash(page, b'script')}; style-src {_hash(page, b'style')}; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    headers = (
        (b"content-security-policy", policy.encode()),
        (b"x-content-type-options", b"nosniff"),
        (b"referrer-policy", b"no-referrer"),
        (b"cache-control", b"no-cache"),
    )
    return Answer(body=page, media="text/html; charset=utf-8", headers=headers)


def _hash(page: bytes, tag: bytes) -> str:
    (content,) = re.findall(b"<%b>(.*?)</%b>" % (tag, tag), page, re.DOTALL)
    return f"'sha256-{base64.b64encode(hashlib.sha256(content).digest()).decode()}'"
