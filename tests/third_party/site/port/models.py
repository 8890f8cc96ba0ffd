"""What is in the port."""

from django.db import models


class Ship(models.Model):
    name = models.CharField(max_length=50)
    berth = models.IntegerField(default=0)

    def __str__(self) -> str:
        return self.name
