"""What pip lets pass and nobody would understand later is an ImportError here, before anything else of batchkit is imported."""

import sys
from pathlib import Path

import starlette

__all__: list[str] = []

if sys.version_info < (3, 11):  # noqa: UP036  a copy of the sources comes without pip's own check
    raise ImportError(f"batchkit needs Python 3.11 or later, and this is {sys.version.split()[0]}")

if int(starlette.__version__.partition(".")[0]) < 1:
    raise ImportError(
        f"batchkit needs Starlette 1.0 or later, and this is {starlette.__version__}: pip install -U starlette fastapi"
    )

# One of its files. Whichever of the two was installed last has the __init__.py.
if Path(__file__).with_name("apiserver.py").exists():
    raise ImportError(
        "PyPI's batchkit, another project, is installed in the same place as batchkit-asgi: "
        "pip uninstall batchkit batchkit-asgi, and then pip install batchkit-asgi"
    )
