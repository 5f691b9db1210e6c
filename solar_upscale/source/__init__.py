"""Where bytes come from: a folder or the Hub, the headers of the weight files, and the ``Checkpoint`` they make up."""
