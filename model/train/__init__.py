"""Training: what is read, how gaps are cut from it, what is learned (a LoRA adapter, MTP modules), and the loop."""
