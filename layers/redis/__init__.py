"""Channel layers over Redis and Valkey."""
