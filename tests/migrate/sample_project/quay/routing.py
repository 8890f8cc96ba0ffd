from django.urls import path, re_path

from quay import consumers


def http_urlpatterns(django):
    return [path("tide/", consumers.Tide.as_asgi()), re_path("", django)]


websocket_urlpatterns = [
    path("ws/ships/<str:ship>/", consumers.Ship.as_asgi()),
    path("ws/log/", consumers.Log.as_asgi()),
]

workers = {"cranes": consumers.Crane.as_asgi()}
