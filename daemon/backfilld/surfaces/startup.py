"""What a process that runs for long sets up once it has imported what it needs."""

import gc

import pyarrow as pa


def settle() -> None:
    """Collect garbage again, but never look at what the imports made; give Arrow's freed buffers back to the system."""
    gc.freeze()
    gc.enable()
    pa.set_memory_pool(pa.system_memory_pool())
