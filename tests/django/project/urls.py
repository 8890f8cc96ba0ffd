"""URLs of the sample project. The tests rewrite VERSION, so that the server reloads."""

from django.http import HttpRequest, HttpResponse
from django.urls import path

VERSION = "first"


def version(request: HttpRequest) -> HttpResponse:
    """Tell which version of this file is served."""
    return HttpResponse(VERSION, content_type="text/plain")


urlpatterns = [path("", version)]
