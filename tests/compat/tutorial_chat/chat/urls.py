"""A page to choose a room, and one for each room and each kind of consumer."""

from django.urls import path

from chat import views

urlpatterns = [
    path("", views.index, name="index"),
    path("<str:room>/", views.room, {"socket": "chat"}, name="room"),
    path("<str:room>/sync/", views.room, {"socket": "sync-chat"}, name="sync-room"),
]
