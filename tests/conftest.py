import os

# Small CPU convolutions collapse under OpenMP contention; this must precede the torch import.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
