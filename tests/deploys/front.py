"""nginx as the guides configure it, in front of servers on Unix sockets."""

import re
from collections.abc import Sequence
from pathlib import Path

from tests.deploys.site import DEPLOY, RESTARTS, file_of
from tests.servers import Certificates, Nginx

__all__ = ["front", "front_without_tls"]


def front(sockets: Sequence[Path], certificates: Certificates, static: Path) -> Nginx:
    """Make the nginx of the guides, with the paths of a test in place of theirs.

    For one server it is that of the guide to deploys, for two the one to rolling restarts has its upstream.
    """
    text = _text(sockets)
    for old, new in (
        ("listen 443 ssl;", "listen 127.0.0.1:PORT ssl;"),
        ("/etc/ssl/mysite/fullchain.pem", str(certificates.server)),
        ("/etc/ssl/mysite/privkey.pem", str(certificates.server_key)),
        ("/srv/mysite/static/", f"{static}/"),
    ):
        assert old in text
        text = text.replace(old, new)
    return Nginx(text)


def front_without_tls(sockets: Sequence[Path]) -> Nginx:
    """Make the same without TLS, for clients that trust nobody they do not know."""
    text = re.sub(r" *ssl_certificate.*\n", "", _text(sockets))
    return Nginx(text.replace("listen 443 ssl;", "listen 127.0.0.1:PORT;"))


def _text(sockets: Sequence[Path]) -> str:
    text = file_of(DEPLOY, "deploy/nginx.conf")
    if len(sockets) == 1:
        places = ["unix:/run/mysite/web.sock"]
    else:
        upstream = file_of(RESTARTS, "deploy/upstream.conf")
        text, count = re.subn(r"upstream mysite \{.*?\n\}\n", lambda _: upstream, text, flags=re.DOTALL)
        assert count == 1
        places = ["unix:/run/mysite-1/web.sock", "unix:/run/mysite-2/web.sock"]
    for place, path in zip(places, sockets, strict=True):
        assert text.count(place) == 1
        text = text.replace(place, f"unix:{path}")
    return text
