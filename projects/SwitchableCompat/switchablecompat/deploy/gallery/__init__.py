"""Searchable galleries in FAISS and Milvus, search results, and upgrades of a gallery in use."""
