"""Settings of Sphinx: ``make docs``."""

import libcloud_mcs

project = "libcloud-mcs"
author = "The libcloud-mcs team"
copyright = author  # noqa: A001 - Sphinx's name
release = version = libcloud_mcs.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc"]
# Links to the headings of another page, by their text.
myst_heading_anchors = 3
html_theme = "furo"
html_title = f"libcloud-mcs {release}"

autodoc_typehints = "description"
# libcloud's methods that are the same here are in libcloud's documentation.
autodoc_inherit_docstrings = False
nitpicky = True
nitpick_ignore_regex = [
    # Of other packages and of Python: without their documentation at hand nothing can be looked up.
    (r"py:.*", r"(libcloud|requests|os|datetime|decimal|collections|pathlib|random|typing)\..*"),
    (
        r"py:.*",
        r"(Any|Decimal|Deployment|Node|NodeAuth\w+|PathLike|RSAPrivateKey|datetime|timedelta)",
    ),
    # The connection and the cloud inside are for those who read the source.
    (r"py:.*", r"libcloud_mcs\.(connection\.MCSConnection|emulator\.(cloud|wire|_\w+)\.\w+)"),
]
