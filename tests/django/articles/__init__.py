"""An application with a model, for what is sent by signals, views and the admin."""
