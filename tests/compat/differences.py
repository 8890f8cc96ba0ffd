"""What of Channels' surface is not kept, and why."""

from typing import Final

__all__ = ["CASES", "NAMES", "PARAMETERS"]

_READS = "the connection and the channel layer are read by one loop, which hands messages over without a task for each"
_NAME_RULES = (
    "the names that are valid are part of the contract of all layers; `require_valid_group_name()` and "
    "`require_valid_channel_name()` tell"
)
_THREADS = "the live server runs in a thread, so nothing is pickled and no other process opens the database"
_TRANSPORT = "an internal of how channels_redis keeps its queues in Redis"
_SERIALIZER = "a format of your own goes into `channels_redis.serializers.registry`"
_CALLED = "the parameter is called `message`, as in the base class"
_SAVED = "`SessionMiddleware` saves with the first event of every answer, that of a WebSocket too"

_STATELESS = "an internal of `asgiref.server.StatelessServer`, on which Sealane's worker is not built"
_COMMAND = "an internal of the command, which makes its worker from its options"

#: By the end of a dotted name, as it stands in the table.
NAMES: Final = {
    "channel_receive": _READS,
    "channel_name_regex": _NAME_RULES,
    "group_name_regex": _NAME_RULES,
    "invalid_name_error": f"errors say what is wrong with the name; {_NAME_RULES}",
    "InstanceSessionWrapper.cookie_response_message_types": _SAVED,
    "InstanceSessionWrapper.save_message_types": _SAVED,
    "ChannelsLiveServerTestCase.ProtocolServerProcess": _THREADS,
    "channels.testing.live.make_application": _THREADS,
    "channels.testing.live.set_database_connection": _THREADS,
    "channels.testing.application.no_op": "an internal: communicators patch nothing, since inside a transaction no "
    "connection is closed",
    "Worker.application_checker": _STATELESS,
    "Worker.application_checker_interval": _STATELESS,
    "Worker.application_exception": _STATELESS,
    "Worker.application_instances": _STATELESS,
    "Worker.application_send": _STATELESS,
    "Worker.arun": _STATELESS,
    "Worker.delete_application_instance": _STATELESS,
    "Worker.delete_oldest_application_instance": _STATELESS,
    "Worker.get_or_create_application_instance": _STATELESS,
    "Worker.max_applications": _STATELESS,
    "Worker.listener": _STATELESS,
    "Command.channel_layer": _COMMAND,
    "Command.leave_locale_alone": _COMMAND,
    "Command.verbosity": _COMMAND,
    "Command.worker_class": _COMMAND,
    "channels_redis.core.BoundedQueue": _TRANSPORT,
    "channels_redis.core.ChannelLock": _TRANSPORT,
    "channels_redis.core.RedisLoopLayer": _TRANSPORT,
    "channels_redis.pubsub.RedisPubSubLoopLayer": _TRANSPORT,
    "channels_redis.pubsub.RedisSingleShardConnection": _TRANSPORT,
    "RedisChannelLayer.brpop_timeout": _TRANSPORT,
    "RedisChannelLayer.client_prefix": _TRANSPORT,
    "RedisChannelLayer.connection": f"{_TRANSPORT}; `channels_redis.utils.create_pool` makes connections of your own",
    "RedisChannelLayer.consistent_hash": f"{_TRANSPORT}; names are spread by another rule",
    "RedisChannelLayer.create_pool": f"{_TRANSPORT}; `hosts` takes every argument of a connection",
    "RedisChannelLayer.deserialize": _SERIALIZER,
    "RedisChannelLayer.hosts": "it may hold passwords; `layer.places` is what was made of it",
    "RedisChannelLayer.receive_buffer": _TRANSPORT,
    "RedisChannelLayer.receive_clean_locks": _TRANSPORT,
    "RedisChannelLayer.receive_cleaners": _TRANSPORT,
    "RedisChannelLayer.receive_count": _TRANSPORT,
    "RedisChannelLayer.receive_event_loop": _TRANSPORT,
    "RedisChannelLayer.receive_lock": _TRANSPORT,
    "RedisChannelLayer.receive_single": _TRANSPORT,
    "RedisChannelLayer.ring_size": _TRANSPORT,
    "RedisChannelLayer.serialize": _SERIALIZER,
    "RedisChannelLayer.wait_received": _TRANSPORT,
    "channels_redis.serializers.JSONSerializer.from_bytes": _CALLED,
    "channels_redis.serializers.MsgPackSerializer.as_bytes": _CALLED,
    "channels_redis.serializers.MsgPackSerializer.from_bytes": _CALLED,
    "RedisPubSubChannelLayer.deserialize": _SERIALIZER,
    "RedisPubSubChannelLayer.serialize": _SERIALIZER,
}

#: Parameters that are not taken, or have another default, as ``dotted.name(parameter)``.
PARAMETERS: Final = {
    "channels.db.DatabaseSyncToAsync(context)": "the parameters are those of the asgiref that is installed",
    "channels.layers.InMemoryChannelLayer(kwargs)": "there is nothing that Channels would take there",
    "channels.layers.InMemoryChannelLayer.new_channel(prefix)": "the name begins with `specific.`, not `specific..`",
    "channels_redis.pubsub.RedisPubSubChannelLayer(args)": "they have names here, those of RedisChannelLayer",
    "channels_redis.pubsub.RedisPubSubChannelLayer(kwargs)": "they have names here, those of RedisChannelLayer",
}

#: Where Sealane says something else than Channels, as ``program.case``: the row of the migration page that says so.
CASES: Final = {
    "consumers.disconnect_after_an_error": "After an exception in a handler, `disconnect()` does not run",
    "consumers.an_unknown_type_from_the_layer": "whose type has no handler ends the consumer",
    "sync_consumers.an_unknown_type_from_the_layer": "whose type has no handler ends the consumer",
    "consumers.a_method_of_the_framework_from_the_layer": 'reaches any method: `{"type": "close"}` calls `close()`',
    "consumers.sending_after_the_end": "What is sent after `close()` goes to the server",
    "consumers.a_frame_that_is_not_json": "A frame that is not JSON raises in a JSON consumer",
    "consumers.a_binary_frame_for_json": "A binary frame raises in a JSON consumer",
    "consumers.json_of_a_datetime": "`send_json()` refuses a `datetime`",
    "consumers.a_tuple_in_a_message": "In memory a message arrives as the objects that were sent",
    "layers.wire": "In memory a message arrives as the objects that were sent",
    "http.a_body_that_is_a_text": "`send_body()` refuses a text with an `AssertionError`",
    "routing.the_text_of_no_route": "An unknown path is \"No route found for path 'x'.\"",
    "routing.includes": "`include()` is an `ImproperlyConfigured`",
    "middleware.headers_of_a_session": "A response with a session says nothing to caches",
    "middleware.a_session_of_a_websocket": "A WebSocket saves its session only where your code calls `save()`",
    "middleware.the_header_of_a_cookie": "Headers of cookies are `Set-Cookie`",
    "middleware.a_refused_origin": "`connect()` returns `(False, 1000)` for a refused origin",
    "testing.wrong_use": "`send_to()` with wrong arguments is an `AssertionError`",
    "testing.after_waiting_in_vain": "A test that waits in vain for an event kills the application",
    "testing.an_application_that_does_not_end": "`wait()` returns where the application does not end in time",
    "layers.bad_messages": "A message that is not a dict is an `AssertionError`",
    "redis_core.bad_messages": "A message that is not a dict is an `AssertionError`",
    "layers.channel_capacity_in_memory": "`channel_capacity` of the in-memory layer fails",
    "worker.a_message_without_a_type": "A message without a type ends the worker",
    "worker.a_handler_that_fails": "After a handler has failed, what comes for its channel is lost",
    "redis_core.a_full_member": "A member that reads nothing fills the queue of its process",
    "redis_core.copies": "a receiver gets the object that another one may change",
    "redis_core.hosts": "`hosts` as a text is a `ValueError`",
}
