"""Text that has broken programs before: a list of ours, and two public ones where their clones are at hand.

``CORPORA`` names a directory with clones of github.com/nst/JSONTestSuite and
github.com/minimaxir/big-list-of-naughty-strings (both MIT). They are read, and are no part of this repository.
"""

import json
import os
from pathlib import Path

CORPORA = os.environ.get("CORPORA")

# Each is a statement, a condition or a file's end, if it gets anywhere that SQL is put together. They sleep, so that
# one that is run is noticed: nothing here waits so long.
INJECTIONS = [
    "'", "''", "';", "' --", "\\'", "\\", "%27", "\u2019", "\u02bc", "\x00'", "\x1a'", "' OR 1=1 --", "' OR '1'='1",
    "1 OR 1=1", "1) OR (1=1", '" OR ""="', "') OR ('1'='1' --", "' OR 1=1 /*", "%' OR '%'='",
    "'; SELECT pg_sleep(100); --", "' || pg_sleep(100) --", "1; SELECT pg_sleep(100)", "'||(SELECT pg_sleep(100))||'",
    "' OR (SELECT 1 FROM pg_sleep(100)) IS NOT NULL --", "1 AND 1=(SELECT 1 FROM pg_sleep(100))", "pg_sleep(100)",
    "(SELECT CASE WHEN true THEN pg_sleep(100) END)", "$$; SELECT pg_sleep(100); $$",
    "'::text || pg_sleep(100)::text || '", "'; DROP TABLE webhook_events; --",
    "'; TRUNCATE webhook_events CASCADE; --", "1; DELETE FROM webhook_events",
    "'; UPDATE webhook_events SET processed_at = now(); --", "'; COPY webhook_events TO PROGRAM 'true'; --",
    "'; CREATE ROLE friend SUPERUSER LOGIN; --", "'; ALTER SYSTEM SET fsync = off; --",
    "'; COMMIT; DROP SCHEMA public; --", "' UNION SELECT body FROM webhook_events --",
    "' UNION ALL SELECT NULL, NULL, NULL --", "1 UNION SELECT usename FROM pg_user",
    "' AND 1=CAST((SELECT version()) AS integer) --", "' ORDER BY 100 --", "1/0",
    "'; SELECT lo_import('/etc/passwd'); --", "%s", "%(body)s", "%%", "%", "{0.__class__}", ":name", "$1", "?", "{}",
    '{"a":1}', "NULL", "DEFAULT", "now()", "*",
]  # fmt: skip
# As escapes, where an editor would show something else.
NAUGHTY = [
    "undefined", "null", "None", "nil", "true", "False", "NaN", "Infinity", "-1", "0", "00", "1e400", "0x10", "1_000",
    "1,5", "9" * 400, "-0.0", "\uff11", "\u0665", "²", "½", " ", "\t", "\n", "\r\n", "\x0b\x0c", "\x08", "\x1b[31m",
    "\x7f", "\x85", "\xa0", "\xad", "\ufeff", "\ufffe", "\uffff", "\U0001ffff", "\u2028", "\u200b", "\u202eevil",
    "\u2066a\u2069", "a\u0301", "á", "\u1e9e", "İ", "ŉ", "\ufb03", "Z\u0351\u036b\u0343", "\u7530\u4e2d\u3055\u3093",
    "\uc0ac\ud68c\uacfc\ud559\uc6d0", "\u05e9\u05dc\u05d5\u05dd", "\u0627\u0644\u0643\u0644", "\u16bb\u16d6",
    "\U0001d573", "\U0001f468\u200d\U0001f469\u200d\U0001f467", "\U0001f1e9\U0001f1ea", "\U0001f44d\U0001f3fd",
    "\U000e0041", "<script>alert(1)</script>", '"/><Say>x</Say>', "]]>", "<!ENTITY x SYSTEM 'file:///etc/passwd'>",
    "&amp;&#0;", "javascript:alert(1)", "{{7*7}}", "${jndi:ldap://127.0.0.1/a}", "$(touch /tmp/x)", "`id`", "|id",
    "; id", "$HOME", "%d%n%s", "{0}", "../../etc/passwd", "..\\..\\x", "/dev/null", "CON", "file:///etc/passwd",
    "http://169.254.169.254/", "-rf", "--help", "__class__", "__proto__", "constructor", "toString",
    "=cmd|'/C calc'!A0", "+1+1", "@SUM(1)", "a:b", "a/b", "a%2fb", "a;b", "a=b&c=d", "'", '"', "\\", "\\u0000", "%00",
    "\\ud800", "x" * 300, "é" * 150, "\U0001f600" * 100, "a" * 4000,
]  # fmt: skip


def json_files() -> dict[str, bytes]:
    """Return JSONTestSuite's files by name; what begins with y_ is JSON, with n_ isn't, and with i_ may be."""
    found = sorted((_corpora() / "JSONTestSuite" / "test_parsing").glob("*.json"))
    return {path.stem: path.read_bytes() for path in found}


def naughty_strings() -> list[str]:
    """Return the Big List of Naughty Strings."""
    return list(json.loads((_corpora() / "big-list-of-naughty-strings" / "blns.json").read_text(encoding="utf-8")))


def _corpora() -> Path:
    assert CORPORA, "CORPORA: expected a directory with both clones"
    return Path(CORPORA)
