"""The chat application's entry in Django."""

from django.apps import AppConfig


class ChatConfig(AppConfig):
    name = "chat"
