"""Texts: tokenizers and models found by name or folder, texts as blocks of tokens, networks, and what they write."""
