"""URLs of the test project."""

from django.http import HttpRequest, HttpResponse
from django.urls import URLPattern, path

__all__ = ["urlpatterns"]


def index(request: HttpRequest) -> HttpResponse:
    """Answer with the path, so that a test sees that Django got the request."""
    return HttpResponse(f"Django: {request.path}", content_type="text/plain")


urlpatterns: list[URLPattern] = [path("", index)]
