"""One command that checks what this project runs on an NVIDIA GPU: ``benchmarks/gpu_check OUT``."""
