"""The pages that ordinary Django views answer. The sockets and the ticker are routed in asgi.py."""

from django.urls import path

import pictures.views
from chat import views

urlpatterns = [
    path("", views.home, name="home"),
    path("rooms/<slug:slug>/", views.room, name="room"),
    path("notices/", views.notices, name="notices"),
    path("pictures/", pictures.views.pictures, name="pictures"),
    path("pictures/<uuid:key>/<int:width>/", pictures.views.picture, name="picture"),
]
