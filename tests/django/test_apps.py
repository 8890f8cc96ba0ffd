"""Sealane in INSTALLED_APPS: what it brings, and what it does not import."""

import subprocess
import sys
from collections.abc import Sequence

from django.apps import apps
from django.core import checks

from sealane import checks as sealane_checks
from sealane.apps import SealaneConfig

#: Run in an interpreter of its own, where nothing but Django's setup has imported anything.
SETUP = """
import sys
import django
from django.conf import settings
settings.configure(INSTALLED_APPS=["sealane", "django.contrib.staticfiles"])
django.setup()
print(" ".join(sorted(sys.modules)))
"""


def test_the_application_has_its_names() -> None:
    config = apps.get_app_config("sealane")

    assert isinstance(config, SealaneConfig)
    assert (config.name, config.verbose_name) == ("sealane", "Sealane")


def test_setup_imports_no_server_and_nothing_of_sealane_that_a_command_does_not_need() -> None:
    run = subprocess.run([sys.executable, "-c", SETUP], capture_output=True, text=True, check=True, timeout=30)
    modules = set(run.stdout.split())

    assert "sealane.checks" in modules
    assert not modules & {"uvicorn", "uvloop", "httptools", "websockets", "msgpack"}
    assert not {".".join(name.split(".")[:2]) for name in modules if name.startswith("sealane.")} - {
        "sealane.apps",
        "sealane.checks",
        "sealane.exceptions",
        "sealane.logins",
        "sealane.types",
    }


def test_the_checks_are_registered_under_tags() -> None:
    registered = [check for check in checks.registry.registry.get_checks() if "sealane" in check.tags]
    tags: dict[object, Sequence[str]] = {check: check.tags for check in registered}

    assert tags == {
        sealane_checks.check_application: ("sealane", "async_support"),
        sealane_checks.check_channel_layers: ("sealane",),
        sealane_checks.check_installed_apps: ("sealane", "staticfiles"),
    }
    deployed: list[object] = list(checks.registry.registry.get_checks(include_deployment_checks=True))
    assert sealane_checks.check_deployment in deployed
