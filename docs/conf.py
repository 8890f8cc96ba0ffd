"""How Sphinx builds these pages: Markdown through MyST, reference entries from the docstrings."""

import django
from django.conf import settings

import sealane

# Some modules need settings to be imported; the reference describes them, it does not run them.
settings.configure(INSTALLED_APPS=["sealane", "django.contrib.contenttypes", "django.contrib.auth"])
django.setup()

project = "Sealane"
author = "Sealane contributors"
version = release = sealane.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc"]
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = "Sealane"

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_typehints = "description"
