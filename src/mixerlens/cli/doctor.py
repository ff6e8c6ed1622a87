"""``mixerlens doctor``: what this installation computes with, and whether its two paths agree."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version

from .options import Json
from .output import print_json, show, table

PACKAGES = ("torch", "numpy", "safetensors", "transformers", "jinja2", "matplotlib", "scikit-learn")
TORCH_ONLY = ("ssd_scan", "gated_delta_scan", "coefficient views")


def doctor(json: Json = False) -> bool:
    """Show versions, threads and memory, and which code each scan runs: C, or torch and why.

    Where the C library is used it is compared with the torch path; exit code 1 then means that they differ.
    """
    import torch

    from .. import __version__, native
    from ..native.check import differences
    from ..operator import memory_budget

    status, compared = native.status(), differences()
    library = {name: value for name, value in vars(status).items() if name != "active"}
    result = {
        "mixerlens": __version__,
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}",
        "packages": {name: _version(name) for name in PACKAGES},
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "cuda": torch.cuda.is_available(),
        "threads": torch.get_num_threads(),
        "cores": os.cpu_count(),
        "memory_budget": memory_budget(),
        "paths": {"selective_scan": "C" if status.active else "torch", **dict.fromkeys(TORCH_ONLY, "torch")},
        "native": {"active": status.active, **library},
        "check": [{**row._asdict(), "holds": row.holds} for row in compared],
    }
    if json:
        print_json(result)
    else:
        _show(result, compared)
    return all(row.holds for row in compared)


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _show(result: dict, compared: list) -> None:
    about = table("this installation", "what", "value")
    about.add_row("mixerlens", result["mixerlens"])
    about.add_row("python", f"{result['python']}, {result['machine']}")
    for name, found in result["packages"].items():
        about.add_row(name, found or "not installed")
    about.add_row("instructions", result["instructions"] + (", CUDA" if result["cuda"] else ""))
    about.add_row("threads", f"{result['threads']} of {result['cores']} cores")
    about.add_row("memory budget", f"{result['memory_budget'] / 2**30:.1f} GiB")
    show(about)
    paths = table("what computes", "function", "path", "why")
    for name, path in result["paths"].items():
        paths.add_row(name, path, _why(result["native"]) if name == "selective_scan" else "has no C path")
    show(paths)
    if compared:
        shown = table(
            "C against torch: largest difference", "dtype", "outputs", "gradients", right=("outputs", "gradients")
        )
        for row in compared:
            shown.add_row(row.dtype, f"{row.outputs:.1e}", f"{row.gradients:.1e}")
        show(shown)
    wrong = [row.dtype for row in compared if not row.holds]
    show(f"FAILED: the two paths differ in {', '.join(wrong)}" if wrong else "all is well")


def _why(native: dict) -> str:
    if not native["active"]:
        return native["reason"]
    by = f" by {native['compiler']}" if native["compiler"] else ""
    words = f"{native['instructions']}, {native['origin']}{by}: {native['library']}"
    return f"{words}; {native['note']}" if native["note"] else words
