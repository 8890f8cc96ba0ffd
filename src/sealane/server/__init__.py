"""The development server of ``manage.py runserver``: uvicorn, its log lines, its time limits and its end.

Nothing here is needed in production: run your ASGI application on uvicorn, Daphne, Hypercorn or Granian
there. Importing this package does not import uvicorn; ``sealane.server.development`` does.
"""
