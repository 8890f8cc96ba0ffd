"""One page: who asks for it sends a job."""

from django.http import HttpRequest, HttpResponse
from django.urls import path

from sealane.layers import channel_layers


def send(request: HttpRequest) -> HttpResponse:
    """Send a job after the commit, as a view does."""
    channel_layers["default"].sync.send("jobs", {"type": "job.do", "n": int(request.GET["n"])}, on_commit=True)
    return HttpResponse("sent")


urlpatterns = [path("", lambda request: HttpResponse("here")), path("send", send)]
