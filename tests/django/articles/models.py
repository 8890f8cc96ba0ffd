"""The model. It has no migrations: a test database gets its table with the rest."""

from django.db import models

__all__ = ["Article"]


class Article(models.Model):
    title: "models.CharField[str, str]" = models.CharField(max_length=100)

    def __str__(self) -> str:
        return self.title
