"""Deployment of a trained family: stand-alone files, searchable galleries, profiles."""
