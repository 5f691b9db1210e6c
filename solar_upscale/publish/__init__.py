"""Publish an output on the Hub: large files are uploaded first, and one final commit makes everything visible.

The Hub keeps uploaded files before they are committed, so a push that resumes does not upload them again.
"""
