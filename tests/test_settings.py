"""The configuration: every fault is told at once, with what to do, and no secret is ever repeated."""

import pytest

from receiver.settings import BadSettings, from_environ, public_url, sources_from
from tests.http_receiver import settings

DATABASE = "postgresql://inbox:pw@localhost/inbox"
AGENT = {"name": "agent", "provider": "agent", "secrets": ["env:SECRET"]}
TWILIO = {"name": "twilio", "provider": "twilio", "secrets": ["env:SECRET"]}


@pytest.fixture
def faults(tmp_path):
    """Function that returns the faults of these sources, [] where there are none."""

    def of(*sources, **environ):
        try:
            settings(tmp_path, DATABASE, list(sources), **{"SECRET": "s3cret", **environ})
        except BadSettings as error:
            return error.faults
        return []

    return of


def faults_of(environ):
    with pytest.raises(BadSettings) as caught:
        from_environ(environ)
    return caught.value.faults


def test_all_faults_are_told_at_once(faults):
    found = faults(
        {**AGENT, "secrets": ["env:MISSING", "file:/nowhere"]},
        {**AGENT, "name": "second", "provider": "telnyx"},
        {**TWILIO, "max_body": 0, "paths": 1},
        {**TWILIO, "name": "third", "tolerance": 5, "paths": ["no-slash", "/a?b"]},
    )

    assert found == [
        "source 'agent': secret 'env:MISSING': MISSING is not set; set it, or remove the reference",
        "source 'agent': secret 'file:/nowhere': can't read the file: No such file or directory",
        "source 'second': unknown provider 'telnyx'; expected one of agent, dialpad, twilio, vapi",
        "source 'twilio': paths: input should be a valid list",
        "source 'twilio': max_body: input should be greater than or equal to 1",
        "source 'third': tolerance: extra inputs are not permitted",
        "source 'third': no base_url; set BASE_URL=https://host, the public URL that is called and signed",
        "source 'third': path 'no-slash': expected an absolute path in ASCII, without query or fragment",
        "source 'third': path '/a?b': expected an absolute path in ASCII, without query or fragment",
    ]


def test_a_password_in_a_base_url_is_not_repeated(faults):
    (fault,) = faults({**TWILIO, "base_url": "https://user:S3CRETPW@host:99999"})

    assert "host:99999" in fault
    assert "S3CRETPW" not in fault


@pytest.mark.parametrize(
    ("scheme", "told"),
    [
        ({"payload_format": "{timestamp}"}, "expected {body} in it"),
        ({"payload_format": "{body}"}, "expected {timestamp} in it"),
        ({"secret_is_base64": True}, "is not base64"),
    ],
)
def test_an_hmac_that_would_cover_too_little_or_never_match_is_a_fault(faults, scheme, told):
    (fault,) = faults(
        {"name": "vapi", "provider": "vapi", "secrets": ["env:SECRET"], "hmac": scheme}, SECRET="no base64!"
    )

    assert told in fault


def test_the_database_and_the_sources_are_faulted_together():
    found = faults_of({"TWILIO_AUTH_TOKEN": ""})

    assert [fault.partition(":")[0] for fault in found] == [
        "no database", "source 'twilio'", "source 'twilio'", "source 'twilio-voice'", "source 'twilio-voice'",
        "source 'twilio-reminder'", "source 'twilio-reminder'",
    ]  # fmt: skip


@pytest.mark.parametrize("secret", ["", " ", "\n", "\t\r\n"])
def test_an_empty_secret_is_a_fault(secret, faults):
    (fault,) = faults(AGENT, SECRET=secret)

    assert fault.startswith("source 'agent': secret 'env:SECRET': is empty; ")


@pytest.mark.parametrize("secret", ["s3cret\n", " s3cret", "s3cret\r", "s3cret\u00a0"])
def test_white_space_around_a_secret_is_a_fault_that_does_not_repeat_it(secret, faults):
    (fault,) = faults(AGENT, SECRET=secret)

    assert "white space" in fault
    assert "s3cret" not in fault


@pytest.mark.parametrize("pasted", ["0123456789abcdef", "whsec_MfKQ9r8GKYqrTwj", "vapi:0123456789abcdef", ""])
def test_a_secret_pasted_where_its_name_belongs_is_not_repeated(pasted, faults):
    (fault,) = faults({**AGENT, "secrets": [pasted]})

    assert "expected secrets as env:NAME or file:PATH" in fault
    assert pasted == "" or pasted not in fault


@pytest.mark.parametrize("values", [{"secrets": "s3cret-text"}, {"secret": "s3cret-text"}, {"name": ["s3cret-text"]}])
def test_a_secret_in_a_wrong_place_is_not_repeated(values, faults):
    found = "\n".join(faults({**AGENT, **values}))

    assert found
    assert "s3cret-text" not in found or "name" in values


def test_a_public_key_is_no_secret(faults):
    (fault,) = faults(AGENT, SECRET="whpk_A6EHv/POEL4dcN0Y50vAmWfk1jCbpQ1fHdy")

    assert "is a public key" in fault


KEY_IS_BASE64 = {"name": "vapi", "provider": "vapi", "secrets": ["env:SECRET"], "hmac": {"secret_is_base64": True}}


@pytest.mark.parametrize("source", [AGENT, KEY_IS_BASE64], ids=["agent", "vapi"])
def test_what_remains_of_a_secret_whose_variable_was_not_set_is_no_secret(source, faults):
    (fault,) = faults(source, SECRET="whsec_")

    assert "no key, so anyone could sign" in fault


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ({"name": "a"}, {"name": "a"}, "source 'a': the name is used twice; names are keys of the events' table"),
        ({"name": "inbox"}, {"name": "b"}, "source 'inbox': the name is the inbox's own; choose another"),
        (
            {"name": "a", "paths": ["/x"]},
            {"name": "b", "paths": ["/x"]},
            "source 'b': path '/x' belongs to source 'a'; give it another",
        ),
        (
            {"name": "a"},
            {"name": "b", "paths": ["/webhooks/a"]},
            "source 'b': path '/webhooks/a' belongs to source 'a'; give it another",
        ),
    ],
)
def test_two_sources_share_no_name_and_no_path(first, second, expected, faults):
    assert faults({**AGENT, **first}, {**AGENT, **second}) == [expected]


@pytest.mark.parametrize("path", ["/livez", "/readyz"])
def test_the_receivers_own_paths_are_taken(path, faults):
    (fault,) = faults({**AGENT, "paths": [path]})

    assert fault == f"source 'agent': path {path!r} is the receiver's own; choose another"


@pytest.mark.parametrize("name", ["", "A", "a b", "a/b", "-a", "x" * 64, "ä"])
def test_a_name_is_one_that_a_url_and_a_metric_can_carry(name, faults):
    (fault,) = faults({**AGENT, "name": name})

    assert "name: string should match pattern" in fault


@pytest.mark.parametrize(
    "url",
    [
        "https://your-domain.example", "https://<host>", "https://{host}", "changeme", "https://", "ftp://host", "//",
        "https://host?a=1", "https://host#rc=2", "https://[2001:db8::1]:8443", "[::1]", "https://host:99999",
        "https://host:port", "http://:80",
    ],
)  # fmt: skip
def test_a_base_url_that_nobody_can_call_is_a_fault_where_it_is_signed(url, faults):
    (fault,) = faults(TWILIO, BASE_URL=url)

    assert fault.startswith(f"source 'twilio': BASE_URL {url!r}: ")


@pytest.mark.parametrize(
    ("given", "one_form"),
    [
        ("host.example", "https://host.example"),
        ("http://host.example/", "http://host.example"),
        ("https://host.example:8443/eu//", "https://host.example:8443/eu"),
        ("https://user:pass@host.example/x", "https://host.example/x"),
    ],
)
def test_a_base_url_has_one_form(given, one_form):
    assert public_url(given) == one_form


def test_a_base_url_is_needed_only_where_it_is_signed(faults):
    assert faults(AGENT) == []
    assert faults(AGENT, BASE_URL="https://host:99999") == []
    assert faults({**AGENT, "provider": "vapi", "hmac": {"payload_format": "{url}.{body}"}}) != []


def test_a_sources_own_base_url_wins(tmp_path):
    environ = {"SECRET": "s", "BASE_URL": "https://other.example"}

    (source,) = settings(tmp_path, DATABASE, [{**TWILIO, "base_url": "https://own.example"}], **environ).sources

    assert source.base_url == "https://own.example"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[[source]\n", "is not TOML: "),
        ("a = \xff".encode("latin-1"), "is not TOML: "),
        ("", "expected [[source]] tables and nothing else"),
        ("[source]\nname = 'a'\n", "expected [[source]] tables and nothing else"),
        ("[[sources]]\nname = 'a'\n", "expected [[source]] tables and nothing else, got 'sources' besides"),
        ("source = [1]\n", "source '?': name: field required"),
    ],
)
def test_a_file_that_holds_no_sources_is_a_fault(text, expected, tmp_path):
    path = tmp_path / "sources.toml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())

    assert expected in "\n".join(faults_of({"DATABASE_URL": DATABASE, "WEBHOOK_SOURCES": str(path)}))


def test_a_missing_file_is_a_fault(tmp_path):
    (fault,) = faults_of({"DATABASE_URL": DATABASE, "WEBHOOK_SOURCES": str(tmp_path / "none.toml")})

    assert fault.endswith("No such file or directory")


@pytest.mark.parametrize("values", [{"tolerance": 1}, {"insecure": True}, {"answer": {}}])
def test_an_option_of_another_provider_is_a_fault(values, faults):
    (fault,) = faults({**AGENT, **values})

    assert fault.endswith("extra inputs are not permitted")


@pytest.mark.parametrize("answer", [{"stream_url": "http://x"}, {"stream_path": "x"}, {"pause": 61}, {"greting": ""}])
def test_an_answer_that_twilio_could_not_follow_is_a_fault(answer, faults):
    (fault,) = faults({**TWILIO, "answer": answer}, BASE_URL="https://host.example")

    assert fault.startswith("source 'twilio': answer.")


@pytest.mark.parametrize(
    ("numbers", "expected"),
    [
        ([{"number": "15555550142", "app_id": "a"}], "numbers.0.number: expected a number as Twilio writes it, "),
        ([{"number": "whatsapp:+15555550142", "app_id": "a"}], "numbers.0.number: expected a number as Twilio"),
        ([{"number": "+1 555 555 0142", "app_id": "a"}], "numbers.0.number: expected a number as Twilio writes it"),
        ([{"number": 15555550142, "app_id": "a"}], "numbers.0.number: input should be a valid string"),
        ([{"number": "+15555550142"}], "numbers.0.app_id: field required"),
        ([{"number": "+15555550142", "app_id": ""}], "numbers.0.app_id: string should have at least 1 character"),
        ([{"number": "+15555550142", "app_id": "a", "pause": 61}], "numbers.0.pause: input should be less than or"),
        ([{"number": "+15555550142", "app_id": "a", "stream_url": "http://x"}], "numbers.0.stream_url: string should"),
        (
            [{"number": number, "app_id": "a"} for number in ("77777", "+15555550142", "+15555550142", "77777")],
            "numbers: numbers.2 is numbers.1 again, numbers.3 is numbers.0 again; a number belongs to one tenant",
        ),
    ],
)
def test_a_number_that_is_none_or_stands_there_twice_is_a_fault_that_does_not_repeat_it(numbers, expected, faults):
    (fault,) = faults({**TWILIO, "numbers": numbers}, BASE_URL="https://host.example")

    assert fault.startswith(f"source 'twilio': {expected}")
    assert str(numbers[0]["number"]) not in fault.partition("such as")[0]


def test_a_numbers_faults_are_told_with_all_the_others(faults):
    bad = {**TWILIO, "numbers": [{"number": "x"}], "answer": {"pause": 61}, "paths": ["x"]}

    found = faults(bad, {**AGENT, "secrets": []})

    assert [fault.split(": ")[1] for fault in found[:-3]] == ["answer.pause", "numbers.0.number", "numbers.0.app_id"]
    assert [fault.partition(";")[0] for fault in found[-3:]] == [
        "source 'twilio': no base_url",
        "source 'twilio': path 'x': expected an absolute path in ASCII, without query or fragment",
        "source 'agent': no secret",
    ]


def test_insecure_and_secrets_exclude_each_other(faults):
    dialpad = {"name": "dialpad", "provider": "dialpad"}

    assert "exclude each other" in faults({**dialpad, "insecure": True, "secrets": ["env:SECRET"]})[0]
    assert "no secret; add secrets" in faults(dialpad)[0]
    assert "no secret; add secrets" in faults({**dialpad, "insecure": False})[0]
    assert faults({**dialpad, "insecure": True}) == []


@pytest.mark.parametrize("content", [b"s3cret", b"s3cret\n", b"s3cret\r\n"])
def test_a_secret_of_a_file_may_end_with_its_line(content, tmp_path):
    path = tmp_path / "secret"
    path.write_bytes(content)

    (source,) = settings(tmp_path, DATABASE, [{**AGENT, "secrets": [f"file:{path}"]}]).sources

    assert [secret.value for secret in source.secrets] == [b"s3cret"]
    assert "s3cret" not in repr(source)


@pytest.mark.parametrize("content", [b"", b"\n", b"s3cret\n\n", b"\xff"])
def test_a_file_without_a_usable_secret_is_a_fault(content, tmp_path, faults):
    path = tmp_path / "secret"
    path.write_bytes(content)

    assert len(faults({**AGENT, "secrets": [f"file:{path}"]})) == 1


@pytest.mark.parametrize(
    ("variable", "names"),
    [
        ("TWILIO_AUTH_TOKEN", ["twilio", "twilio-voice", "twilio-reminder"]),
        ("TWILIO_WEBHOOK_SECRET", ["twilio", "twilio-voice", "twilio-reminder"]),
        ("VAPI_WEBHOOK_SECRET", ["vapi"]),
        ("WEBHOOK_SHARED_SECRET", ["vapi"]),
        ("DIALPAD_WEBHOOK_SECRET", ["dialpad"]),
        ("WEBHOOK_SECRET", ["agent"]),
    ],
)
def test_a_default_source_is_on_when_its_secret_is_set(variable, names):
    sources = sources_from({variable: "s3cret", "BASE_URL": "https://host.example"})

    assert [source.name for source in sources] == names


def test_a_default_source_whose_secret_is_empty_is_a_fault_and_not_off():
    assert "is empty" in faults_of({"DATABASE_URL": DATABASE, "WEBHOOK_SECRET": "", "VAPI_WEBHOOK_SECRET": "x"})[0]


def test_no_source_at_all_is_a_fault():
    (fault,) = faults_of({"DATABASE_URL": DATABASE})

    assert fault.startswith("no source is on: set at least one of TWILIO_AUTH_TOKEN, VAPI_WEBHOOK_SECRET")


@pytest.mark.parametrize("url", ["postgres//u:SECRETPW@h/x", "postgresql://u:SECRET PW@h", "host=h password='SECRETPW"])
def test_a_database_url_that_does_not_parse_is_not_repeated(url):
    (fault,) = faults_of({"DATABASE_URL": url, "WEBHOOK_SECRET": "s3cret"})

    assert fault.startswith("DATABASE_URL: expected postgresql://user:password@host:port/name")
    assert "PW" not in fault
