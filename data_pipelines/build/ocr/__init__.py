"""Pictures of text with the place of every line: pages drawn here, and pages of PDF and HTML files.

config, corpus, fonts -> layout -> page -> render; rules -> html, pdf -> extract; command for both.
"""
