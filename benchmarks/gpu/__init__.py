"""One command that tries everything an NVIDIA GPU is needed for: ``benchmarks/gpu_check OUT``."""
