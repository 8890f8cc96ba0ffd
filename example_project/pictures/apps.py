"""The pictures application's entry in Django."""

from django.apps import AppConfig


class PicturesConfig(AppConfig):
    name = "pictures"
