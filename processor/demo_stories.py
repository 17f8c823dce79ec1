"""The demo's stories, one a system and one of troubles: what an application wrote before, what is looked at after.

What is sent between the two is in receiver/tour.py, which makes a run's ids by the same rule: names end in the run's
first 6 digits, and the reminder's SMS is ``SM`` and the run. Who removes a system removes its story, here and there.
"""

from dataclasses import dataclass
from typing import Any

from psycopg import Connection
from psycopg.rows import dict_row

from processor.operations import Row


@dataclass(frozen=True)
class Story:
    """before: statements of the application's, which has run. tables: a query each, of what came of it.

    All take run ("_3f9a1c"), sms (a MessageSid) and ids: of the calls and messages that the deliveries are about.
    """

    name: str
    title: str
    before: tuple[str, ...]
    tables: dict[str, str]
    after: str = ""


STORIES = (
    Story(
        "surveys",
        "Survey campaign: Twilio calls three people; the callback's URL names campaign, contact and attempt",
        (
            "INSERT INTO campaigns (campaign_id, planned_calls) VALUES ('survey' || %(run)s, 3)",
            """
                INSERT INTO contacts (contact_id, campaign_id)
                SELECT name || %(run)s, 'survey' || %(run)s FROM unnest(ARRAY['ann', 'ben', 'cem']) AS name
            """,
        ),
        {
            "contacts, call_attempts, dialogues": """
                SELECT contact_id AS contact, contact.state, attempt.outcome, attempt.answered_by,
                       attempt.duration_seconds AS seconds,
                       CASE WHEN attempt.recording_url <> '' THEN 'yes' END AS recorded,
                       to_char(dialogue.started_at, 'HH24:MI:SS') AS dialogue_started
                  FROM contacts AS contact
                  JOIN call_attempts AS attempt USING (app_id, contact_id)
                  LEFT JOIN dialogues AS dialogue USING (app_id, contact_id)
                 WHERE contact.campaign_id = 'survey' || %(run)s
                 ORDER BY contact_id
            """
        },
        "Ann answered: her dialogue was started, once; its outcome is for the dialogue to write.",
    ),
    Story(
        "campaigns",
        "Voice AI campaign: Vapi makes two calls, and tells their cost and transcript after their end",
        ("INSERT INTO campaigns (campaign_id, planned_calls) VALUES ('vapi' || %(run)s, 2)",),
        {
            "vapi_calls": """
                SELECT left(call_id, 8) || '…' AS call, status, ended_reason, round(duration_seconds) AS seconds,
                       cost_usd, CASE WHEN recording_url <> '' THEN 'yes' END AS recorded,
                       split_part(transcript, chr(10), 1) AS transcript
                  FROM vapi_calls WHERE campaign_id = 'vapi' || %(run)s
                 ORDER BY status
            """,
            "campaign_progress, of both campaigns": """
                SELECT campaign_id AS campaign, status, total, active, completed, failed, completed_rate, failed_rate,
                       to_char(completed_at, 'HH24:MI:SS') AS completed_at
                  FROM campaign_progress WHERE campaign_id IN ('survey' || %(run)s, 'vapi' || %(run)s)
                 ORDER BY created_at, campaign_id
            """,
        },
    ),
    Story(
        "call_log",
        "Incoming calls: Twilio asks what to do with a call, is answered with TwiML, and tells how it went on",
        (),
        {
            "call_log": """
                SELECT from_number, state, to_char(started_at, 'HH24:MI:SS') AS started_at,
                       round(answer_seconds) AS answered_after_seconds, duration_seconds, sip_code
                  FROM call_log WHERE provider = 'twilio' AND call_id = ANY (%(ids)s)
                 ORDER BY state
            """
        },
    ),
    Story(
        "cti",
        "Dialpad CTI: what an agent's screen shows of calls and messages",
        (),
        {
            "cti_calls": """
                SELECT status, direction, from_number, round(talk_seconds, 1) AS talk_seconds,
                       round(total_seconds, 1) AS total_seconds,
                       CASE WHEN recording_url <> '' THEN 'yes' END AS recorded
                  FROM cti_calls WHERE call_id = ANY (%(ids)s)
                 ORDER BY status
            """,
            "messages": """
                SELECT direction, state, from_number, to_numbers[1] AS to_number, text
                  FROM messages WHERE provider = 'dialpad' AND message_id = ANY (%(ids)s)
                 ORDER BY direction
            """,
        },
    ),
    Story(
        "reminders",
        "Payment reminders: three by our own voice agent's call, one by SMS",
        (
            """
                INSERT INTO reminders (reminder_id, status)
                SELECT name || %(run)s, 'in_progress' FROM unnest(ARRAY['missed', 'paid', 'talking']) AS name
            """,
            """
                INSERT INTO reminders (reminder_id, channel, status, external_id)
                VALUES ('sms' || %(run)s, 'sms', 'in_progress', %(sms)s)
            """,
        ),
        {
            "reminders": """
                SELECT reminder_id AS reminder, channel, status, outcome ->> 'customer_response' AS customer_response,
                       retry_count, next_retry_at - now() AS next_retry_in
                  FROM reminders WHERE right(reminder_id, 7) = %(run)s AND left(reminder_id, 5) <> 'flaky'
                 ORDER BY reminder_id
            """
        },
        "talking: unless its call tells more within 10 minutes, the inbox itself fails it, and has it tried again.",
    ),
    Story(
        "troubles",
        "And what goes wrong",
        ("INSERT INTO reminders (reminder_id, status) VALUES ('flaky' || %(run)s, 'in_progress')",),
        {
            "call_events, the log of calls": """
                SELECT event_type, state AS told, from_state AS was, change
                  FROM call_events WHERE provider = 'twilio' AND call_id = ANY (%(ids)s)
                 ORDER BY id
            """
        },
    ),
)


def names(run: str, subjects: set[str]) -> dict[str, Any]:
    """Return what the statements take. *run*: 32 hex digits."""
    return {"run": f"_{run[:6]}", "sms": f"SM{run}", "ids": [subject.partition("/")[2] for subject in subjects]}


def write(conn: Connection, run: str) -> None:
    """Write what an application would have written before the deliveries come. Commits."""
    with conn.transaction():
        for story in STORIES:
            for statement in story.before:
                conn.execute(statement.encode(), names(run, set()))


def read(conn: Connection, query: str, run: str, subjects: set[str]) -> list[Row]:
    """Return the rows of one of a story's tables."""
    return conn.cursor(row_factory=dict_row).execute(query.encode(), names(run, subjects)).fetchall()
