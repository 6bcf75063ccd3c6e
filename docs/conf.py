"""How the site looks and what it may contain. `make site` builds it from what docs/build.py prepares."""

project = "Fine-tune a text classifier"
extensions = ["myst_nb"]
html_theme = "furo"  # its fonts are the reader's own: nothing comes from another server
html_title = project
html_static_path = ["static"]
html_css_files = ["site.css"]
html_js_files = ["site.js"]
html_show_sphinx = html_show_copyright = html_copy_source = False
html_use_index = False

# A page shows the outputs that are stored in the notebook; building it runs no cell and needs neither torch
# nor data.
nb_execution_mode = "off"
# otherwise each page would fetch them from elsewhere; build.py says in the controls' places what stands in
# for them
nb_ipywidgets_js = {}
nb_output_stderr = "show"
smartquotes = False  # messages and options are shown as they are typed
myst_heading_anchors = 4  # links such as #check
suppress_warnings = ["mystnb.mime_priority"]

# Colours of code with at least 4.5:1 against their background, in both modes.
pygments_style = "a11y-high-contrast-light"
pygments_dark_style = "a11y-high-contrast-dark"


def say_levels(app, pagename, templatename, context, doctree):
    """Give the sidebar's captions the level that Sphinx leaves out: a screen reader asks for it."""
    tree = context.get("furo_navigation_tree", "")
    context["furo_navigation_tree"] = tree.replace('role="heading"', 'role="heading" aria-level="2"')


def setup(app):
    app.connect("html-page-context", say_levels, priority=900)  # after the theme
