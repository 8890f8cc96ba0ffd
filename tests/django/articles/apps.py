"""Its configuration: the label is that of the application in the documentation."""

from django.apps import AppConfig

__all__ = ["ArticlesConfig"]


class ArticlesConfig(AppConfig):
    name = "tests.django.articles"
    label = "articles"
