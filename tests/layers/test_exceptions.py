"""What the exceptions of channel layers say, with and without what they are about."""

import pickle

import pytest

from sealane.exceptions import ChannelFull, MessageTooLarge


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (ChannelFull("thumbnails", 100), "Channel 'thumbnails' is full: 100 messages wait there"),
        (ChannelFull("thumbnails"), "Channel 'thumbnails' is full"),
        (ChannelFull(capacity=100), "A channel is full: 100 messages wait there"),
        (ChannelFull(), "A channel is full"),
        (MessageTooLarge(2000, 1000), "Message is 2000 bytes when serialized; the limit is 1000"),
        (MessageTooLarge(2000), "Message is too large: 2000 bytes when serialized"),
        (MessageTooLarge(limit=1000), "Message is too large: the limit is 1000 bytes"),
        (MessageTooLarge("the picture"), "Message is too large: the picture"),  # type: ignore[arg-type]
        (MessageTooLarge(), "Message is too large"),
    ],
    ids=repr,
)
def test_a_layer_may_leave_out_what_it_does_not_know(error: Exception, text: str) -> None:
    assert str(error) == text
    assert str(pickle.loads(pickle.dumps(error))) == text
