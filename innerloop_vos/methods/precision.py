"""Which devices compute fast in half precision."""

import torch


def fast_bfloat16(device: torch.device) -> bool:
    """Tell whether a device has instructions for bfloat16, so that it is not emulated."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type == "cpu":
        known = torch.cpu.get_capabilities()
        return any(known.get(name, False) for name in ("amx_bf16", "avx512_bf16"))
    return False
