"""Pictures of text with the place of every line: pages drawn here, and pages of PDF files.

config, corpus, fonts -> layout -> page -> render; rules -> pdf -> extract; command for both.
"""
