"""Whatever a password holds, a file's reference to it is one part of the connection string, and is shown nowhere."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict
from servers import Pair

from pgsluice import config
from pgsluice.config import references
from pgsluice.embedded import Cluster
from pgsluice.endpoint import Endpoint
from pgsluice.errors import PgsluiceError

PASSWORDS = (
    "wr:ite@2", "p%41w", "per%", "it's", "'", "''", '"quoted"', "back\\slash", "\\", "two words", " ends ", "tab\there",
    "sl/ash?query#mark", "am&p=password=x", "dol$lar ${NOT} $$", "br[ack]et,comma;", "plus+é가", "pass@@word:/", "x",
)  # fmt: skip
ROLE = "of_a_file"
#: The forms of a connection string, each around a reference to the password.
FORMS = {
    "URI": "postgresql://{role}:{ref}@127.0.0.1:{port}/postgres",
    "URI, as a parameter": "postgresql://{role}@127.0.0.1:{port}/postgres?password={ref}&connect_timeout=5",
    "conninfo": "host=127.0.0.1 port={port} password={ref} user={role} dbname=postgres",
    "conninfo, last": "host=127.0.0.1 port={port} user={role} dbname=postgres password = {ref}",
    "conninfo, in quotes": "host=127.0.0.1 port={port} password='{ref}' user={role} dbname=postgres",
    "behind another reference": "${{SERVER}} password={ref}",
}


@pytest.fixture
def login(source_cluster: Cluster) -> Iterator[str]:
    with psycopg.connect(source_cluster.dsn, autocommit=True) as admin:
        admin.execute(sql.SQL("CREATE ROLE {} LOGIN").format(sql.Identifier(ROLE)))
        try:
            yield source_cluster.dsn
        finally:
            admin.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(ROLE)))


@pytest.mark.parametrize("kind", ["variable", "file", "program"])
@pytest.mark.parametrize("form", FORMS)
def test_a_referenced_password_is_taken_as_it_is(
    source_cluster: Cluster, login: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str, kind: str
) -> None:
    secret, file = tmp_path / "secret", tmp_path / "pgsluice.yaml"
    reference = {"variable": "${PW}", "file": f"${{file:{secret}}}", "program": f"${{cmd:cat {secret}}}"}[kind]
    monkeypatch.setenv("SERVER", f"host=127.0.0.1 port={source_cluster.port} user={ROLE} dbname=postgres")
    dsn = FORMS[form].format(role=ROLE, ref=reference, port=source_cluster.port)
    file.write_text(f'target: "{dsn}"\ntables: {{s.t: {{}}}}\n')
    for password in PASSWORDS:
        with psycopg.connect(login, autocommit=True) as admin:
            admin.execute(sql.SQL("ALTER ROLE {} PASSWORD {}").format(sql.Identifier(ROLE), sql.Literal(password)))
        monkeypatch.setenv("PW", password)
        secret.write_text(password)
        secret.chmod(0o600)
        known = config.load(file)
        assert known.target is not None
        with Endpoint(known.target, read_only=True).open() as session:
            assert session.role == ROLE, password
        shown = references.shown(dsn, is_dsn=True)
        assert "***" in shown
        assert (
            password not in shown.replace(f"{ROLE}", "").replace("postgres", "").replace("password", "")
            or password == "'"
        )


@pytest.mark.parametrize(
    ("text", "values", "means"),
    [
        ("postgresql://${A}:${B}/${C}", ("h1", "5433", "a/b"), {"host": "h1", "port": "5433", "dbname": "a/b"}),
        ("postgresql://u@${A}/d", ("h1:1,h2:2", "", ""), {"host": "h1,h2", "port": "1,2"}),
        (
            "postgresql://${A}@h/d?${B}",
            ("me@corp", "sslmode=require&port=7", ""),
            {"user": "me@corp", "sslmode": "require"},
        ),
        ("${A}", ("postgresql://u:p%40@h/d", "", ""), {"password": "p@"}),
        ("${A}?application_name=${B}", ("postgresql://h/d", "a&b", ""), {"application_name": "a&b"}),
        (
            "host=h user=a${A}b password=${B} dbname=d",
            (" ' ", "", ""),
            {"user": "a ' b", "password": "", "dbname": "d"},
        ),
        ("service=${A}", ("my shop", "", ""), {"service": "my shop"}),
    ],
)
def test_every_part_may_be_a_reference(
    monkeypatch: pytest.MonkeyPatch, text: str, values: tuple[str, ...], means: dict[str, str]
) -> None:
    for name, value in zip("ABC", values, strict=True):
        monkeypatch.setenv(name, value)
    found = conninfo_to_dict(references.resolve(text, lambda _: None, is_dsn=True))
    assert means.items() <= {name: value or "" for name, value in found.items()}.items()


# --- messages that hold a password, or only seem to --------------------------------------------------------------------

#: Words that messages of servers and libraries are made of, and the role's own name.
WORDS = ("x", "e", "password", "user", "FATAL", "127.0.0.1", "failed", ROLE)


def refusal(dsn: str) -> str:
    with pytest.raises(PgsluiceError) as raised:
        Endpoint(dsn, read_only=True).open()
    return raised.value.message


@pytest.mark.parametrize("password", WORDS)
def test_a_message_is_the_same_whatever_the_password_is(source_cluster: Cluster, login: str, password: str) -> None:
    """What is taken out of a message tells where it stood, and so what it was."""
    where = f"host=127.0.0.1 port={source_cluster.port} dbname=postgres"
    unlike = "nothing_like_it"
    for place in (f"{where} user={ROLE}", "host=/nowhere/lake.nope.example user=exe", f"{where} user=x_nobody"):
        assert refusal(f"{place} password={password}") == refusal(f"{place} password={unlike}")
        assert "***" not in refusal(f"{place} password={password}")


def test_what_a_server_says_is_left_out_where_it_may_hold_the_password(pair: Pair, target_cluster: Cluster) -> None:
    role = f"told_{pair.target.name}"
    pair.target.execute(
        f"""CREATE ROLE {role} LOGIN PASSWORD 'S3cr3t';
        CREATE FUNCTION public.refuse() RETURNS event_trigger LANGUAGE plpgsql AS $$BEGIN
          IF session_user = '{role}' THEN RAISE EXCEPTION 'token S3cr3t of yesterday'; END IF; END$$;
        CREATE EVENT TRIGGER refuse ON login EXECUTE FUNCTION public.refuse(); ALTER EVENT TRIGGER refuse ENABLE ALWAYS"""
    )
    try:
        where = f"host=127.0.0.1 port={target_cluster.port} dbname={pair.target.name} user={role}"
        said = refusal(f"{where} password=S3cr3t")
        assert "yesterday" not in said
        assert "S3cr3t" not in said
        assert "what the server says is left out" in said
        assert "127.0.0.1" in said
    finally:
        pair.target.execute(f"DROP EVENT TRIGGER refuse; DROP ROLE {role}")
