"""What may be uploaded."""

# The annotations are for type checkers: at run time Django's classes take no parameters.
from __future__ import annotations

from django import forms
from django.core.exceptions import ValidationError
from django.core.files.uploadedfile import UploadedFile
from django.template.defaultfilters import filesizeformat

from pictures.resizing import UnreadablePicture, check

#: The most bytes that a file may have. A real site has its web server refuse larger requests before Django reads them.
MOST_BYTES = 10 * 1024 * 1024


class PictureForm(forms.Form):
    """A picture to make small ones of."""

    file = forms.FileField(
        label="Picture",
        widget=forms.ClearableFileInput(attrs={"accept": "image/jpeg,image/png,image/webp,image/gif"}),
        error_messages={"required": "Choose a picture first.", "empty": "This file is empty."},
    )

    def clean_file(self) -> UploadedFile[bytes]:
        file: UploadedFile[bytes] = self.cleaned_data["file"]
        size = file.size or 0
        if size > MOST_BYTES:
            raise ValidationError(
                f"This file has {filesizeformat(size)}. The most that is taken here is {filesizeformat(MOST_BYTES)}."
            )
        # By its content: the name and the type that a browser sends say nothing.
        try:
            check(file)
        except UnreadablePicture as error:
            raise ValidationError(str(error)) from error
        file.seek(0)
        return file
