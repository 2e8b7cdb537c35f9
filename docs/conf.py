"""The documentation site: `make docs`. Nothing in it comes from the network, neither when it is built nor when it is read."""

from __future__ import annotations

import mpicluster

project = "mpicluster"
author = "the authors of mpicluster"
version = release = mpicluster.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_copybutton"]
exclude_patterns: list[str] = []
#: in docstrings, `x` is a link to x where there is one
default_role = "py:obj"
nitpicky = False

myst_heading_anchors = 3
myst_enable_extensions = ["colon_fence"]

autodoc_member_order = "bysource"
autodoc_default_options = {"members": True, "inherited-members": "Future,Executor,dict,BaseException,object", "show-inheritance": True}
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_class_signature = "separated"
autodoc_preserve_defaults = True
napoleon_google_docstring = False
napoleon_use_rtype = False

html_theme = "furo"
html_title = f"mpicluster {version}"
html_show_sphinx = False
html_copy_source = False
pygments_style = "friendly"
pygments_dark_style = "native"
