"""The application that a project serves: the one that its ``ASGI_APPLICATION`` setting names."""

from importlib import import_module
from typing import cast

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured

from sealane.types import ASGIApplication

__all__ = ["application_name", "get_default_application"]


def get_default_application() -> ASGIApplication:
    """Import the ASGI application that the ``ASGI_APPLICATION`` setting names, ``"mysite.asgi.application"``.

    Raises ImproperlyConfigured where the setting is missing or is not a dotted name, where its module cannot
    be imported (the original error is the cause, and the message says whether the module itself is missing or
    something that it imports), and where the module has no such name or the value cannot be called. Any other
    error that the module raises while it is imported passes as it is.
    """
    dotted = getattr(settings, "ASGI_APPLICATION", None)
    if not dotted:
        raise ImproperlyConfigured(
            "The ASGI_APPLICATION setting is missing. Set it to the dotted name of your ASGI application, "
            "such as 'mysite.asgi.application'"
        )
    module_name, _, name = dotted.rpartition(".") if isinstance(dotted, str) else ("", "", "")
    if not (module_name and name):
        raise ImproperlyConfigured(
            f"The ASGI_APPLICATION setting is {dotted!r}; expected the dotted name of a module and an "
            "attribute in it, such as 'mysite.asgi.application'"
        )
    try:
        module = import_module(module_name)
    except ImportError as error:
        raise ImproperlyConfigured(_import_problem(dotted, module_name, error)) from error
    try:
        application = getattr(module, name)
    except AttributeError as error:
        raise ImproperlyConfigured(
            f"The ASGI_APPLICATION setting is {dotted!r}, but module {module_name!r} has no attribute {name!r}"
        ) from error
    if not callable(application):
        raise ImproperlyConfigured(
            f"The ASGI_APPLICATION setting is {dotted!r}, but that is {application!r}, which cannot be "
            "called as an ASGI application"
        )
    return cast(ASGIApplication, application)


def _import_problem(dotted: str, module_name: str, error: ImportError) -> str:
    missing = isinstance(error, ModuleNotFoundError) and error.name is not None
    if missing and f"{module_name}.".startswith(f"{error.name}."):
        return f"The ASGI_APPLICATION setting is {dotted!r}, but there is no module {error.name!r}"
    return (
        f"The ASGI_APPLICATION setting is {dotted!r}, but importing module {module_name!r} failed: "
        f"{type(error).__name__}: {error}"
    )


def application_name(application: object) -> str:
    """Name an ASGI application for an operator: its own repr where it has one, else its function or class."""
    name = getattr(application, "__qualname__", None)
    if isinstance(name, str):
        return name
    kind = type(application)
    return kind.__qualname__ if kind.__repr__ is object.__repr__ else repr(application)
