"""The page, what is uploaded there, and the pictures that were made: for their owner only."""

from uuid import UUID, uuid4

from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_http_methods, require_safe

from pictures.forms import PictureForm
from pictures.models import Picture
from pictures.resizing import WIDTHS, target


@require_http_methods(["GET", "HEAD", "POST"])
def pictures(request: HttpRequest) -> HttpResponse:
    """Show a visitor's pictures, and take one more."""
    owner = UUID(request.session.setdefault("owner", str(uuid4())))
    by_script = request.get_preferred_type(["text/html", "application/json"]) == "application/json"
    form = PictureForm(request.POST, request.FILES) if request.method == "POST" else PictureForm()
    if form.is_valid():
        picture = Picture.take(owner, form.cleaned_data["file"])
        if by_script:
            return JsonResponse(picture.for_page(), status=202)
        messages.success(request, f"{picture.name} is being resized.")
        return redirect("pictures")
    if form.is_bound and by_script:
        return JsonResponse({"errors": form.errors}, status=400)
    context = {"form": form, "pictures": Picture.objects.filter(owner=owner), "widths": WIDTHS}
    return render(request, "pictures/pictures.html", context, status=400 if form.is_bound else 200)


@require_safe
def picture(request: HttpRequest, key: UUID, width: int) -> HttpResponse:
    """Send one of the small pictures to the owner. To anybody else it is not there."""
    owner = request.session.get("owner")
    if owner is None or width not in WIDTHS:
        raise Http404("No such picture")
    found = get_object_or_404(Picture, pk=key, owner=owner, state=Picture.State.DONE)
    try:
        data = target(found.directory, width).read_bytes()
    except FileNotFoundError:
        raise Http404("No such picture") from None
    return HttpResponse(data, content_type="image/webp", headers={"Cache-Control": "private, max-age=3600"})
