"""Searchable galleries in FAISS and Milvus, what a search finds, and the upgrade of a gallery while it serves."""
