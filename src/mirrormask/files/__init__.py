"""Files without torch: the safetensors container and the codes for where nonzeros are, numpy only.

Packed models (``deploy/``) and saved programs (``runtime/``) are both written through it.
"""
