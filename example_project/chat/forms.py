"""What people may send, by a form in a page or by a socket."""

from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.utils.text import slugify

from chat.models import NAME_LENGTH, TEXT_LENGTH, Room


class TextField(forms.CharField):
    """A text that comes as JSON, which holds more than a browser's form: lists, numbers, half characters."""

    def to_python(self, value: Any) -> str:
        if value is None:
            return ""
        if not isinstance(value, str):
            raise ValidationError("Expected a text.")
        try:
            value.encode()
        except UnicodeEncodeError:  # a lone surrogate, such as "\\ud800": no database would take it
            raise ValidationError("Expected a text of whole characters.") from None
        return super().to_python(value) or ""


class JoinForm(forms.Form):
    """A window comes into a room, perhaps again: ``after`` is the last message that it has seen."""

    name = TextField(max_length=NAME_LENGTH)
    after = forms.IntegerField(min_value=0, max_value=2**63 - 1, required=False)


class SayForm(forms.Form):
    """Somebody says something."""

    text = TextField(max_length=TEXT_LENGTH)
    key = forms.UUIDField()


class NoticeForm(forms.Form):
    """Something that everybody should hear."""

    text = forms.CharField(max_length=200, widget=forms.TextInput(attrs={"autofocus": True}))


class RoomForm(forms.Form):
    """A room to open, or to find again by its name."""

    name = forms.CharField(max_length=40)

    def clean_name(self) -> str:
        name: str = self.cleaned_data["name"]
        if not slugify(name):
            raise ValidationError("Use at least one letter from a to z or a digit: the name becomes an address.")
        return name

    def open(self) -> Room:
        """Return the room of this name, made now where there was none."""
        name = self.cleaned_data["name"]
        found, _ = Room.objects.get_or_create(slug=slugify(name), defaults={"name": name})
        return found
