"""Pages: to see that the server answers, to send an event, and the stream of events."""

import django_eventstream
from django.http import HttpRequest, HttpResponse
from django.urls import include, path


def alive(request: HttpRequest) -> HttpResponse:
    import channels

    return HttpResponse(f"{channels.__name__} {channels.__version__} of {channels.layers.__spec__.loader}")


def send_event(request: HttpRequest) -> HttpResponse:
    django_eventstream.send_event("port", "arrived", {"ship": request.GET["ship"]})
    return HttpResponse()


urlpatterns = [
    path("", alive),
    path("send-event/", send_event),
    path("events/", include(django_eventstream.urls), {"channels": ["port"]}),
]
