"""`viable lsp`: suggestions for editors over the Language Server Protocol 3.18."""

from assistant.lsp.service import serve

__all__ = ["serve"]
