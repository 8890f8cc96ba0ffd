"""Programs that were written for Channels: each runs on either, and says what it sees."""
