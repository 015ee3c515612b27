"""One command that checks everything that needs an NVIDIA GPU: ``benchmarks/gpu_check OUT``."""
