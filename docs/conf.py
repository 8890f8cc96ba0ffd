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
html_copy_source = False
# Settings and messages stand in the text; a curly quote is not what one has to type.
smartquotes = False

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_class_signature = "mixed"
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 100
