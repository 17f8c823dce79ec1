"""docker-compose.yml, Procfile and .env.example say what the programs understand."""

import re
import shlex
from pathlib import Path

import click
import pytest
import yaml

ROOT = Path(__file__).parents[1]
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES = COMPOSE["services"]
OURS = {name: service for name, service in SERVICES.items() if name != "postgres"}
PROCFILE = (ROOT / "Procfile").read_text()
PROCESSES = dict(re.findall(r"^([A-Za-z0-9_-]+): (\S.*)$", PROCFILE, re.MULTILINE))
EXAMPLE = (ROOT / ".env.example").read_text()
VARIABLE = re.compile(r"#?([A-Z][A-Z0-9_]*)=(.*)")


def parse(argv):
    """Parse *argv* as the shell would hand it to our console scripts; click raises for what it does not know."""
    from processor.cli import cli as processor  # noqa: PLC0415 -- the files parse without them
    from receiver.cli import cli as receiver  # noqa: PLC0415

    program, *words = argv
    command: click.Command = {"processor": processor, "receiver": receiver}[program]
    while isinstance(command, click.Group):
        name, *words = words
        found = command.get_command(click.Context(command), name)
        assert found, f"{program} has no command {name!r}"
        command = found
    with command.make_context(program, words) as context:
        return context.params


def instructions(service):
    return service["build"]["dockerfile_inline"].splitlines()


@pytest.mark.parametrize("service", OURS)
def test_every_service_runs_a_command_of_ours(service):
    parse(OURS[service]["command"])


@pytest.mark.parametrize("process", PROCESSES)
def test_every_process_of_the_procfile_runs_a_command_of_ours(process):
    parse(shlex.split(PROCESSES[process].replace("$PORT", "8000")))


def test_the_procfile_runs_both_and_serves_the_port_it_is_given():
    assert list(PROCESSES) == ["receiver", "processor"]
    assert parse(shlex.split(PROCESSES["receiver"].replace("$PORT", "1234")))["port"] == 1234


def test_the_receiver_listens_where_compose_publishes_and_checks():
    receiver = SERVICES["receiver"]
    port = parse(receiver["command"])["port"]

    assert receiver["ports"] == [f"127.0.0.1:{port}:{port}"]
    assert f"http://127.0.0.1:{port}/livez" in receiver["healthcheck"]["test"][-1]


def test_the_receivers_health_check_is_python_that_compiles():
    kind, *argv, source = SERVICES["receiver"]["healthcheck"]["test"]

    assert (kind, argv) == ("CMD", ["python", "-c"])
    compile(source, "healthcheck", "exec")


def test_no_other_port_is_published():
    assert [name for name, service in SERVICES.items() if "ports" in service] == ["receiver"]


def test_postgres_is_healthy_when_it_answers_by_tcp():
    assert SERVICES["postgres"]["healthcheck"]["test"][:3] == ["CMD", "pg_isready", "--host=127.0.0.1"]


def test_postgres_keeps_its_data_in_a_named_volume():
    (volume,) = SERVICES["postgres"]["volumes"]

    assert volume == "postgres:/var/lib/postgresql"
    assert "postgres" in COMPOSE["volumes"]


def test_postgres_is_reached_by_our_services_only_and_by_the_address_they_are_given():
    given = SERVICES["postgres"]["environment"]
    address = f"postgresql://{given['POSTGRES_USER']}:{given['POSTGRES_PASSWORD']}@postgres:5432/{given['POSTGRES_DB']}"

    assert SERVICES["postgres"]["networks"] == ["database"]
    assert COMPOSE["networks"]["database"] == {"internal": True}
    for service in OURS.values():
        assert service["environment"]["DATABASE_URL"] == address
        assert "database" in service["networks"]


def test_migrations_run_once_and_before_anything_else_of_ours():
    assert SERVICES["migrate"]["restart"] == "no"
    assert SERVICES["migrate"]["depends_on"] == {"postgres": {"condition": "service_healthy"}}
    for name in ("receiver", "processor"):
        assert SERVICES[name]["depends_on"]["migrate"] == {"condition": "service_completed_successfully"}


@pytest.mark.parametrize("service", SERVICES)
def test_every_service_is_given_time_to_stop(service):
    assert int(SERVICES[service]["stop_grace_period"].removesuffix("s")) >= 30


@pytest.mark.parametrize("service", OURS)
def test_every_service_of_ours_runs_as_an_ordinary_user_without_privileges(service):
    assert instructions(OURS[service])[-1] == "USER inbox"
    assert OURS[service]["cap_drop"] == ["ALL"]
    assert OURS[service]["read_only"] is True


def test_the_image_is_the_plain_package_with_every_room_and_no_dockerfile():
    lines = instructions(SERVICES["receiver"])

    assert lines[0] == "FROM python:3.13-slim"
    assert "RUN pip install --no-cache-dir /src" in lines
    assert {"sql", "receiver", "processor", "handlers"} <= {line.split()[1] for line in lines if "COPY" in line}
    assert not list(ROOT.glob("Dockerfile*"))


def test_the_example_environment_sets_nothing_and_explains_everything():
    blocks = EXAMPLE.strip().split("\n\n")[1:]

    for block in blocks:
        explanation, assignment = block.splitlines()
        assert re.fullmatch(r"# \S.*\.", explanation)
        assert re.fullmatch(r"#[A-Z_]+=", assignment)


def test_every_variable_of_the_example_is_one_that_we_read():
    rooms = [path for room in ("sql", "receiver", "processor", "handlers") for path in (ROOT / room).rglob("*.py")]
    source = "\n".join([*(path.read_text() for path in rooms), PROCFILE])

    names = [match[1] for match in map(VARIABLE.fullmatch, EXAMPLE.splitlines()) if match]

    assert "DATABASE_URL" in names
    assert [name for name in names if not re.search(rf"[\"'${{]{name}\b", source)] == []
