"""One person's browser without a screen: pages and forms over HTTP, with cookies."""

from typing import Any

import httpx

__all__ = ["Visitor"]

#: Where Django looks for the token of a form.
_TOKEN = "csrftoken"


class Visitor:
    """Looks at pages and posts forms, through an ``httpx.Client`` that knows the server and the version of HTTP."""

    def __init__(self, client: httpx.Client) -> None:
        self.client = client

    def look(self, path: str) -> httpx.Response:
        """Fetch a page."""
        return self.client.get(path)

    def post(self, path: str, *, accept: str = "text/html", **fields: str) -> httpx.Response:
        """Fetch the form's page, fill it in and send it; follow no redirect."""
        self.look(path).raise_for_status()
        # Over TLS, Django wants to know where a form was.
        headers = {
            "accept": accept,
            "x-csrftoken": self.client.cookies[_TOKEN],
            "referer": str(self.client.base_url.join(path)),
        }
        return self.client.post(path, data=fields, headers=headers)

    def open_room(self, name: str) -> str:
        """Open a room by the form of the first page, and return its slug."""
        response = self.post("/", name=name)
        assert response.status_code == httpx.codes.FOUND, response.text
        _, rooms, slug, _ = response.headers["location"].split("/")
        assert rooms == "rooms"
        return str(slug)

    def post_notice(self, text: str) -> Any:
        """Tell something to everybody who is in a room, by the ordinary synchronous view."""
        response = self.post("/notices/", accept="application/json", text=text)
        response.raise_for_status()
        return response.json()

    def ticks(self, count: int) -> list[str]:
        """Return the first lines of data of the ticker, and leave it."""
        found: list[str] = []
        with self.client.stream("GET", "/ticker/") as response:
            assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
            for line in response.iter_lines():
                if line.startswith("data: "):
                    found.append(line.removeprefix("data: "))
                    if len(found) == count:
                        break
        return found
