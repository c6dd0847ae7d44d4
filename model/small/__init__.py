"""`viable-small`: a small model with everything in it (latent attention, experts, drafting modules), made here."""
