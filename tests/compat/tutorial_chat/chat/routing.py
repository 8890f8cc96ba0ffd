"""The same chat twice: by an asynchronous consumer, and by a synchronous one."""

from django.urls import re_path

from chat import consumers

websocket_urlpatterns = [
    re_path(r"^ws/chat/(?P<room>\w+)/$", consumers.ChatConsumer.as_asgi()),
    re_path(r"^ws/sync-chat/(?P<room>\w+)/$", consumers.SyncChatConsumer.as_asgi()),
]
