"""Publish an output on the Hub: large files go ahead, one by one; the one commit that shows anything comes last.

What is uploaded ahead is kept by the Hub without being visible: a push that was stopped sends it no second time.
"""
