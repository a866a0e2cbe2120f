"""What pip lets pass and nobody would understand later is an ImportError here, before anything else of batchkit is imported."""

import sys
from importlib import import_module
from pathlib import Path

__all__: list[str] = []

if sys.version_info < (3, 11):  # noqa: UP036  a copy of the sources comes without pip's own check
    raise ImportError(f"batchkit needs Python 3.11 or later, and this is {sys.version.split()[0]}")

for library in ("starlette", "anyio", "msgspec", "referencing", "jsonschema_specifications", "jsonschema", "regex"):
    try:
        import_module(library)
    except ModuleNotFoundError as error:
        raise ImportError(f"batchkit needs {error.name}, which is not installed: pip install batchkit-asgi") from error

starlette = sys.modules["starlette"]
if int(starlette.__version__.partition(".")[0]) < 1:
    raise ImportError(
        f"batchkit needs Starlette 1.0 or later, and this is {starlette.__version__}: pip install -U starlette fastapi"
    )

if not hasattr(sys.modules["anyio"], "TaskHandle"):
    # That takes some milliseconds to import, and a long list of other modules.
    from importlib.metadata import version

    raise ImportError(f"batchkit needs anyio 4.14 or later, and this is {version('anyio')}: pip install -U anyio")

# One of its files. Whichever of the two was installed last has the __init__.py.
if Path(__file__).parent.with_name("apiserver.py").exists():
    raise ImportError(
        "PyPI's batchkit, another project, is installed in the same place as batchkit-asgi: "
        "pip uninstall batchkit batchkit-asgi, and then pip install batchkit-asgi"
    )
