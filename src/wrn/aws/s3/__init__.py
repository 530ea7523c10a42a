"""Uploads: the code archive, the data set's files, wheels."""
