"""The pages: ordinary synchronous Django views."""

from django.contrib import messages
from django.db.models import Count, Max
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.views.decorators.http import require_http_methods, require_safe

from chat.forms import NoticeForm, RoomForm
from chat.models import NAME_LENGTH, TEXT_LENGTH, Room
from sealane.layers import get_channel_layer


@require_http_methods(["GET", "HEAD", "POST"])
def home(request: HttpRequest) -> HttpResponse:
    """List the rooms, and open new ones."""
    form = RoomForm(request.POST or None)
    if form.is_valid():
        return redirect(form.open())
    rooms = Room.objects.annotate(said=Count("messages"), latest=Max("messages__at"))
    return render(request, "chat/home.html", {"rooms": rooms, "form": form}, status=400 if form.is_bound else 200)


@require_safe
def room(request: HttpRequest, slug: str) -> HttpResponse:
    """Show the page of one room. What is said there comes by its socket."""
    context = {
        "room": get_object_or_404(Room, slug=slug),
        "rooms": Room.objects.all(),
        "notice_form": NoticeForm(),
        "name_length": NAME_LENGTH,
        "text_length": TEXT_LENGTH,
    }
    return render(request, "chat/room.html", context)


@require_http_methods(["GET", "HEAD", "POST"])
def notices(request: HttpRequest) -> HttpResponse:
    """Tell something to everybody who is in a room."""
    by_script = request.get_preferred_type(["text/html", "application/json"]) == "application/json"
    form = NoticeForm(request.POST or None)
    if form.is_valid():
        # From a synchronous view, without an event loop: `sync` has the layer's calls for code like this.
        layer = get_channel_layer()
        assert layer is not None  # settings.CHANNEL_LAYERS has it
        text = form.cleaned_data["text"]
        layer.sync.group_send("notices", {"type": "notice.posted", "text": text, "at": timezone.now()})
        if by_script:
            return JsonResponse({"sent": True})
        messages.success(request, "Everybody who is in a room can read it now.")
        return redirect("notices")
    if by_script:
        return JsonResponse({"errors": form.errors}, status=400)
    return render(request, "chat/notices.html", {"form": form}, status=400 if form.is_bound else 200)
