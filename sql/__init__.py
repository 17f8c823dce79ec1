"""The statements, the migrations, and what both processes share about the database.

One statement a file, named for its verb and headed by its in and out. This room imports no
other, and it is the only one that both the receiver and the processor may import.
"""

from functools import cache
from importlib.resources import files


@cache
def load(name: str) -> bytes:
    """Return the statement in ``sql/<name>.sql``, as psycopg executes it.

    Raises FileNotFoundError for a name without a file.
    """
    return files(__name__).joinpath(f"{name}.sql").read_bytes()
