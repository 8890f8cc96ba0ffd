"""Every exception of Sealane.

::

    SealaneError
    ├── StopConsumer                         a handler asks the consumer to end
    ├── AcceptConnection                     connect() asks to accept the WebSocket
    ├── DenyConnection                       connect() asks to refuse it
    ├── RejectMessage                        a handler gives its message up: to the dead letters
    ├── RetryMessage                         a handler wants its message again, later
    ├── ConnectionClosed                     something was sent after the end of a connection
    ├── HandlerCancelled                     a handler was cancelled from inside, the connection was not
    ├── IllegalEvent (RuntimeError)          an event that the connection's state does not allow
    ├── MessageError (ValueError)            a message that cannot be dispatched
    │   ├── MessageWithoutType
    │   ├── UndecodableMessage
    │   └── UnhandledMessage
    ├── FrameError (ValueError)              a frame from a client that is refused; has a close code
    │   ├── EnvelopeError                    a frame for a demultiplexer that comes to nothing
    │   │   ├── InvalidEnvelope              4400
    │   │   ├── StreamConflict               4409
    │   │   └── UnknownStream                4404
    │   ├── FrameTooLarge                    1009
    │   ├── InvalidJSON                      1007
    │   ├── InvalidText                      1007
    │   ├── TooManyFrames                    1008
    │   └── UnexpectedBinary                 1003
    ├── TooManyGroups                        a connection would be in more groups than its max_groups
    ├── RequestAborted                       the client left before its request was complete
    │   └── RequestTimeout
    ├── RequestBodyTooLarge                  a request body over DATA_UPLOAD_MAX_MEMORY_SIZE
    ├── HandshakeTimeout (OSError)           a WebSocket was refused: its handshake took too long
    ├── ServerStopping (OSError)             a WebSocket was closed: the server stops
    ├── StartupFailed (RuntimeError)         the application's lifespan startup failed
    ├── NoRouteFound (ValueError)            no route matches a path
    ├── UnknownScopeType (ValueError)        no application for a scope's type
    ├── UnknownChannel (ValueError)          no application for a channel's name
    ├── InvalidChannelLayerError (ValueError)  a channel layer is configured incorrectly
    │   └── UnknownChannelLayer (KeyError)   no channel layer is configured under an alias
    ├── InvalidName (TypeError)              a channel or group name that the contract does not allow
    ├── InvalidDeliveryOption (ValueError)   an argument of receive_delivery() or a Delivery that cannot be used
    ├── AcknowledgementsUnsupported (NotImplementedError)  the layer has no receive_delivery()
    ├── UnserializableMessage (TypeError)    a message that the layer's serializer refuses
    ├── ChannelFull                          a channel holds as many messages as its capacity
    ├── ChannelClosed                        a channel was closed while something waited on it
    ├── MessageTooLarge                      a message over the layer's size limit
    ├── UndecryptableMessage                 a message that no encryption key of the layer fits
    ├── ChannelLayerUnavailable (ConnectionError)  a layer's server did not carry out a call in time
    ├── CallRefused                          a layer's server answered a call with an error
    ├── ServerUnreachable (ConnectionError)  a layer's server could not be reached, or let nobody in
    ├── ApplicationTimeout (TimeoutError)    a test waited for the application in vain
    ├── ApplicationEnded (TimeoutError)      the application ended while a test waited for an event from it
    ├── UnexpectedEvent (AssertionError)     the application sent another event than a test expected
    ├── WebsocketDenied (AssertionError)     the application refused the WebSocket of a test
    ├── LiveServerError (RuntimeError)       a live server did not start, or did not stop
    ├── ChannelsImported (ImportError)       install_as_channels() came after the import of Channels
    └── ChannelsInstalled (ImportError)      install_as_channels() where Channels is installed too

An exception carries its data as attributes and builds its text from them in ``__str__``. Import it from here,
``from sealane.exceptions import ChannelFull``; the modules are how the code is laid out.
"""

from sealane.exceptions.base import SealaneError
from sealane.exceptions.compat import ChannelsImported, ChannelsInstalled
from sealane.exceptions.connections import (
    AcceptConnection,
    ConnectionClosed,
    DenyConnection,
    HandlerCancelled,
    HandshakeTimeout,
    IllegalEvent,
    RequestAborted,
    RequestBodyTooLarge,
    RequestTimeout,
    ServerStopping,
    StopConsumer,
    TooManyGroups,
)
from sealane.exceptions.frames import (
    EnvelopeError,
    FrameError,
    FrameTooLarge,
    InvalidEnvelope,
    InvalidJSON,
    InvalidText,
    StreamConflict,
    TooManyFrames,
    UnexpectedBinary,
    UnknownStream,
)
from sealane.exceptions.layers import (
    AcknowledgementsUnsupported,
    CallRefused,
    ChannelClosed,
    ChannelFull,
    ChannelLayerUnavailable,
    InvalidChannelLayerError,
    InvalidDeliveryOption,
    InvalidName,
    ServerUnreachable,
    UnknownChannelLayer,
)
from sealane.exceptions.messages import (
    MessageError,
    MessageTooLarge,
    MessageWithoutType,
    RejectMessage,
    RetryMessage,
    UndecodableMessage,
    UndecryptableMessage,
    UnhandledMessage,
    UnserializableMessage,
)
from sealane.exceptions.routing import NoRouteFound, StartupFailed, UnknownChannel, UnknownScopeType
from sealane.exceptions.testing import (
    ApplicationEnded,
    ApplicationTimeout,
    LiveServerError,
    UnexpectedEvent,
    WebsocketDenied,
)

__all__ = [
    "AcceptConnection",
    "AcknowledgementsUnsupported",
    "ApplicationEnded",
    "ApplicationTimeout",
    "CallRefused",
    "ChannelClosed",
    "ChannelFull",
    "ChannelLayerUnavailable",
    "ChannelsImported",
    "ChannelsInstalled",
    "ConnectionClosed",
    "DenyConnection",
    "EnvelopeError",
    "FrameError",
    "FrameTooLarge",
    "HandlerCancelled",
    "HandshakeTimeout",
    "IllegalEvent",
    "InvalidChannelLayerError",
    "InvalidDeliveryOption",
    "InvalidEnvelope",
    "InvalidJSON",
    "InvalidName",
    "InvalidText",
    "LiveServerError",
    "MessageError",
    "MessageTooLarge",
    "MessageWithoutType",
    "NoRouteFound",
    "RejectMessage",
    "RequestAborted",
    "RequestBodyTooLarge",
    "RequestTimeout",
    "RetryMessage",
    "SealaneError",
    "ServerStopping",
    "ServerUnreachable",
    "StartupFailed",
    "StopConsumer",
    "StreamConflict",
    "TooManyFrames",
    "TooManyGroups",
    "UndecodableMessage",
    "UndecryptableMessage",
    "UnexpectedBinary",
    "UnexpectedEvent",
    "UnhandledMessage",
    "UnknownChannel",
    "UnknownChannelLayer",
    "UnknownScopeType",
    "UnknownStream",
    "UnserializableMessage",
    "WebsocketDenied",
]

# The name that a traceback, a log line and a pickle give is the one to import, wherever in here the class is written.
for _name in __all__:
    globals()[_name].__module__ = __name__
del _name
