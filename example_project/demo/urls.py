"""The pages that ordinary Django views answer. The sockets and the ticker are routed in asgi.py."""

from django.urls import path

from chat import views

urlpatterns = [
    path("", views.home, name="home"),
    path("rooms/<slug:slug>/", views.room, name="room"),
    path("notices/", views.notices, name="notices"),
]
