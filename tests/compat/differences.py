"""What of Channels' surface is not kept, and why."""

NAMES: dict[str, str] = {}
PARAMETERS: dict[str, str] = {}
