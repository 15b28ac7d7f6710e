"""Public annotation files to records: one function a format, one job around them.

entry -> captions, questions, text_questions, regions, grit -> formats -> job -> command.
"""
