from asgiref.sync import async_to_sync
from django.http import HttpResponse


def call(request, ship):
    from channels.layers import get_channel_layer

    async_to_sync(get_channel_layer().group_send)(f"ship_{ship}", {"type": "ship.said", "words": ["come in", 2]})
    return HttpResponse("called")
