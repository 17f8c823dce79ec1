"""What ends a command, in lines for its caller and an exit code; imported once something has ended one.

Exit codes: 0 done, 1 a delivery was refused or a check failed, 2 wrong usage, 3 nothing matched, 4 the doctor found a
fault, 69 no receiver or no database answers, 78 bad configuration.
"""

import sqlite3

import psycopg

from receiver.http.listeners import Taken
from receiver.outage.slot import Unusable
from receiver.outage.spool import Failed
from receiver.samples import NoSample
from receiver.settings import BadSettings
from sql import database

UNAVAILABLE, BAD_CONFIGURATION = 69, 78


def told(error: Exception) -> tuple[list[str], int] | None:
    """Return what to say and the exit code; None for what nobody expected."""
    match error:
        case BadSettings():
            return error.faults, BAD_CONFIGURATION
        case database.NoDatabase() | Unusable():
            return [str(error)], BAD_CONFIGURATION
        case Failed() | sqlite3.Error():
            return [f"the spool: {error}"], 1
        case psycopg.Error():
            return _of_the_database(error)
        case NoSample():
            return [str(error)], 2
        case Taken():
            return [str(error)], 1
        case PermissionError():
            return [f"{error.filename}: {error.strerror}; run it as the receiver's user"], 1
        case OSError():
            return [f"no receiver answers: {error}; start one with `receiver run`"], UNAVAILABLE
    return None


def _of_the_database(error: psycopg.Error) -> tuple[list[str], int] | None:
    match error:
        case psycopg.Error() if isinstance(error, database.PENDING):
            fault = "the database has no tables of ours, or older ones; run `processor db migrate`"
            return [fault], BAD_CONFIGURATION
        case psycopg.errors.InsufficientPrivilege():
            return [f"{error.diag.message_primary}; see `processor db sql --grants`"], BAD_CONFIGURATION
        case psycopg.OperationalError():
            # libpq's text names host, port and user, never the password.
            return [f"the database does not answer: {' '.join(str(error).split())}"], UNAVAILABLE
    return None
